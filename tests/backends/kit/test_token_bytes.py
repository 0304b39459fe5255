"""The bytes of tokens, in each way that vocabularies write them."""

from __future__ import annotations

import pytest

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ark_backends.kit.tokenizer import byte_letters, token_table

TEXT = "Grüße, 世界! 🦊\n\tif (x) {}"


def test_byte_level() -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|end|>"])
    table = token_table(core)
    assert b"".join(table[i] for i in core.encode(TEXT).ids) == TEXT.encode()
    assert sorted(table[:256]) == [bytes([byte]) for byte in range(256)]
    assert table[256] == b"<|end|>"


def test_every_byte_has_one_letter() -> None:
    letters = byte_letters()
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    assert len(set(letters.values())) == 256


def test_sentencepiece() -> None:
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "\u2581if", "x", "世"]
    core = Tokenizer(
        models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>", byte_fallback=True)
    )
    core.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    table = token_table(core)
    assert table[1 + 0x0A] == b"\n"
    assert table[1 + 0xF0] == b"\xf0"
    assert table[pieces.index("\u2581if")] == b" if"
    assert table[pieces.index("世")] == "世".encode()


def test_whole_words() -> None:
    core = Tokenizer(models.WordLevel({"hello ": 0, "world ": 2}, unk_token="hello "))
    core.decoder = decoders.Fuse()
    assert token_table(core) == [b"hello ", b"", b"world "]
