"""The bytes of each token of a vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer as Core

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def token_table(core: Core) -> list[bytes]:
    """What each id adds to a text, from 0 to the last id of the vocabulary; empty for ids that are not there.

    How a vocabulary writes bytes is seen from its decoder: byte-level ones have a letter for each byte, those made by
    SentencePiece have U+2581 for a space and ``<0x0A>`` for a byte.
    """
    vocabulary: dict[str, int] = core.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    kinds = set(_kinds(json.loads(core.to_str()).get("decoder")))
    convert: Callable[[str], bytes]
    if "ByteLevel" in kinds:
        letters = byte_letters()
        convert = lambda token: b"".join(letters.get(letter) or letter.encode() for letter in token)  # noqa: E731
    elif kinds & {"ByteFallback", "Metaspace"} or ("Replace" in kinds and "\u2581" in core.to_str()):
        convert = _sentencepiece
    else:
        convert = str.encode
    for token, number in vocabulary.items():
        table[number] = convert(token)
    for number, added in core.get_added_tokens_decoder().items():
        # Added tokens stand in the text as they are.
        table[number] = added.content.encode()
    return table


def byte_letters() -> dict[str, bytes]:
    """The letters that byte-level vocabularies write bytes with, as GPT-2's did.

    Printable Latin-1 characters stand for themselves, and U+0100 and what follows for the other bytes in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    letters.update({chr(0x100 + i): bytes([byte]) for i, byte in enumerate(others)})
    return letters


def _sentencepiece(token: str) -> bytes:
    match = _BYTE.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token.replace("\u2581", " ").encode()


def _kinds(decoder: dict[str, Any] | None) -> list[str]:
    if decoder is None:
        return []
    inner = [kind for one in decoder.get("decoders", ()) for kind in _kinds(one)]
    return [str(decoder.get("type")), *inner]
