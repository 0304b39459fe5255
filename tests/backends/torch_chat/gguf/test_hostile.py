"""Damaged and hostile GGUF files: a clear error, and neither a crash nor memory that the file does not have."""

from __future__ import annotations

import random
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from compiled_runner import a_model
from gguf_files import byte_tokens, save_gguf

from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF
from ark_backends.torch_chat.checkpoint import checkpoint
from ark_backends.torch_chat.gguf.decoder import Decoder
from ark_backends.torch_chat.options import TorchChatOptions

EXACT = TorchChatOptions(quantization="none", dtype="float32")


def header(tensors: int = 0, values: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, values)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0, dimensions: int | None = None) -> bytes:
    count = len(shape) if dimensions is None else dimensions
    return text("t") + struct.pack(f"<I{len(shape)}QIQ", count, *shape, kind, offset)


HUGE = 1 << 62

FILES = {
    "does not begin as one": b"GGML" + bytes(100),
    "version is 1": header(version=1),
    "version is 50331648": header(version=3 << 24),
    "ends in the middle": header(values=1) + text("k") + struct.pack("<I", 12),
    f"says that it has {HUGE} tensors": header(tensors=HUGE) + bytes(100),
    f"a text of {HUGE} bytes": header(values=1) + struct.pack("<Q", HUGE) + bytes(100),
    "it is cut": header(values=1) + text("k") + struct.pack("<IIQ", 9, 6, HUGE) + bytes(100),
    f"an array of {HUGE} texts": header(values=1) + text("k") + struct.pack("<IIQ", 9, 8, HUGE) + bytes(100),
    "an array of type 9": header(values=1) + text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(100),
    "a value of type 77": header(values=1) + text("k") + struct.pack("<I", 77) + bytes(100),
    "it has 'k' twice": header(values=2) + 2 * (text("k") + struct.pack("<IB", 0, 1)),
    "has 0 dimensions": header(tensors=1) + tensor((), dimensions=0),
    "has 4294967295 dimensions": header(tensors=1) + tensor((1,), dimensions=(1 << 32) - 1),
    f"the tensor t lies outside of it, which may be cut: {HUGE}": header(tensors=1) + tensor((HUGE, HUGE)),
    "lies outside": header(tensors=1) + tensor((4,), offset=1 << 40) + bytes(100),
    "lies outside of it": header(tensors=1) + tensor((4,), offset=3) + bytes(100),
    "of type 99, which ARK does not read": header(tensors=1) + tensor((4,), kind=99) + bytes(100),
    "has the shape (33,)": header(tensors=1) + tensor((33,), kind=8) + bytes(100),
    "has the shape (0, 4)": header(tensors=1) + tensor((0, 4)) + bytes(100),
    "has the tensor t twice": header(tensors=2) + 2 * tensor((4,)) + bytes(100),
}


@pytest.mark.parametrize("reason", FILES)
def test_what_is_wrong_is_said(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(FILES[reason])
    with pytest.raises(ConfigError, match=re.escape(reason.partition(":")[0])):
        GGUF(path)


def test_counts_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    tracemalloc.start()
    try:
        for data in FILES.values():
            path.write_bytes(data)
            with pytest.raises(ConfigError):
                GGUF(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"block_count": 1 << 30}, "block_count is wrong: it is 1073741824"),
        ({"block_count": 1000}, "tensors for 1000 layers"),
        ({"block_count": 3}, "no tensor blk.2"),
        ({"attention.head_count": 1 << 19}, "numbers do not fit together|has the shape"),
        ({"attention.head_count": 0}, "head_count is wrong: it is 0"),
        ({"attention.key_length": 1 << 18}, "keys and values differ|has the shape"),
        ({"embedding_length": 64}, "has the shape"),
        ({"feed_forward_length": 64}, "has the shape"),
        ({"context_length": "long"}, "context_length is wrong: it is long"),
        ({"attention.layer_norm_rms_epsilon": "x"}, "layer_norm_rms_epsilon is wrong"),
        ({"rope.scaling.type": "odd"}, "rope scaling of the type 'odd'"),
        ({"rope.scaling.type": "linear"}, "rope.scaling.factor is wrong: it is not there"),
    ],
)
def test_numbers_that_do_not_fit(more: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    save_gguf(path, a_model(), more=more)
    with pytest.raises(ConfigError, match=reason):
        checkpoint(path).load(EXACT)
    with pytest.raises((ConfigError, LookupError)):
        Decoder(GGUF(path))


@pytest.mark.parametrize(
    ("vocabulary", "reason"),
    [
        ({"pre": "unheard-of"}, "no pre-tokenizer 'unheard-of'"),
        ({"kind": "rwkv"}, "no tokenizer of the kind 'rwkv'"),
        ({"kinds": [1, 2]}, "199 tokens, and types of 2"),
        ({"tokens": ["a"] * 199}, "a token twice"),
        ({"kind": "llama"}, "no scores"),
        ({"template": "{% if %}"}, "template .* is broken"),
    ],
)
def test_vocabularies_that_are_wrong(vocabulary: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    save_gguf(path, a_model(), **({"tokens": byte_tokens(199)} | vocabulary))
    with pytest.raises(ConfigError, match=reason):
        checkpoint(path).tokenizer()


def test_flipped_bytes_are_an_error_or_none(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    save_gguf(path, a_model(), numbers="Q8_0")
    good = path.read_bytes()
    head = len(good) - GGUF(path).weights_bytes
    draw = random.Random(8)
    refused = 0
    for _ in range(120):
        data = bytearray(good)
        place = draw.randrange(4, head)
        data[place : place + 4] = struct.pack("<I", draw.choice((0, 1, 9, 1 << 31, (1 << 32) - 1)))
        path.write_bytes(data)
        try:
            files = checkpoint(path)
            files.tokenizer()
            files.load(EXACT)
        except ConfigError:
            refused += 1
    assert refused > 60
