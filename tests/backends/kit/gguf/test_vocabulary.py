"""Tokenizers from GGUF's tables, against the tokens that llama.cpp made of the same texts by the same tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from gguf_files import pair_vocabulary, piece_vocabulary, save_vocabulary

from ark_backends.kit.gguf.file import GGUF
from ark_backends.kit.gguf.pretokenizers import PATTERNS
from ark_backends.kit.gguf.vocabulary import tokenizer
from ark_backends.kit.tokenizer import HFTokenizer

# `benchmarks/quality/tokens.py --write` makes it.
KNOWN: dict[str, Any] = json.loads((Path(__file__).parents[3] / "data" / "gguf_tokens.json").read_text())


def made(tmp_path: Path, table: dict[str, Any], **more: Any) -> HFTokenizer:
    save_vocabulary(tmp_path / "vocabulary.gguf", **(table | more))
    return tokenizer(GGUF(tmp_path / "vocabulary.gguf"))


def table_of(name: str) -> dict[str, Any]:
    if name.startswith("sentencepiece"):
        return piece_vocabulary(name, KNOWN["pieces"])
    return pair_vocabulary(name, KNOWN["merges"])


@pytest.mark.parametrize("name", KNOWN["sums"])
def test_the_same_tokens_as_llama_cpp(name: str, tmp_path: Path) -> None:
    found = made(tmp_path, table_of(name))
    sums = [crc32(json.dumps(found.encode(text)).encode()) for text in KNOWN["texts"]]
    differ = [text for text, one, other in zip(KNOWN["texts"], sums, KNOWN["sums"][name], strict=True) if one != other]
    assert differ == []


def test_every_pre_tokenizer_is_compared() -> None:
    # Some names are newer than the llama.cpp that was asked, but not what they stand for.
    compared = {PATTERNS[name] for name in KNOWN["sums"] if name in PATTERNS}
    assert compared == set(PATTERNS.values())
    assert {"sentencepiece", "sentencepiece without a space"} < KNOWN["sums"].keys()
    # They are not all the same.
    assert len({tuple(sums) for sums in KNOWN["sums"].values()}) > 10


@pytest.mark.parametrize("name", ["smollm", "sentencepiece", "sentencepiece without a space"])
def test_tokens_become_the_text_again(name: str, tmp_path: Path) -> None:
    found = made(tmp_path, table_of(name))
    for text in ("Hello w\u00f6rld", "a  b\n\tc", "\u4f60\u597d \U0001f642", "<|im_start|>user\nhi<|im_end|>\n"):
        ids = found.encode(text)
        decoded = found.decode(ids)
        # Behind each special token too, SentencePiece begins with a space.
        assert (decoded if name != "sentencepiece" else decoded.replace("> ", ">")) == text
        stream = found.stream()
        parts = [stream.push([token]) for token in ids if token not in found.hidden] + [stream.flush()]
        assert "".join(parts).strip() == found.decode([token for token in ids if token not in found.hidden]).strip()


def test_special_tokens_and_the_end_of_a_turn(tmp_path: Path) -> None:
    found = made(tmp_path, table_of("qwen2"), eos_token_id=0, eot_token_id=2)
    assert found.encode("<|im_start|>x")[0] == 1
    assert found.stop_token_ids == {0, 2}
    assert found.hidden == {0, 1, 2}


TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"


@pytest.mark.parametrize(
    ("name", "more", "written"),
    [
        ("llama-bpe", {}, "<|im_start|>x"),
        ("sentencepiece", {}, "<|im_start|>x"),
        ("qwen2", {}, "x"),
        ("qwen2", {"add_bos_token": True}, "<|im_start|>x"),
        ("llama-bpe", {"add_bos_token": False}, "x"),
        ("llama-bpe", {"template": "{{ bos_token }}" + TEMPLATE}, "<|im_start|>x"),
        ("llama-bpe", {"template": "<|im_start|>" + TEMPLATE}, "<|im_start|>x"),
    ],
)
def test_the_token_that_prompts_begin_with(name: str, more: dict[str, Any], written: str, tmp_path: Path) -> None:
    found = made(tmp_path, table_of(name), **({"template": TEMPLATE} | more))
    assert found.render([{"role": "user", "content": "x"}]) == written


def test_a_model_that_names_no_pre_tokenizer_gets_llama_cpps_default(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = made(tmp_path, table_of("default") | {"pre": None})
    assert "names no pre-tokenizer" in caplog.text
    text = KNOWN["texts"][3]
    assert crc32(json.dumps(found.encode(text)).encode()) == KNOWN["sums"]["default"][3]


def test_phi_takes_the_spaces_behind_its_tokens_along(tmp_path: Path) -> None:
    save_vocabulary(tmp_path / "phi.gguf", name="Phi-3 mini", **table_of("sentencepiece"))
    found = tokenizer(GGUF(tmp_path / "phi.gguf"))
    assert found.encode("<|im_end|>\n x") == found.encode("<|im_end|>x")
