"""Numbers of each type, read as the package gguf reads them."""

from __future__ import annotations

from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from ark_backends.kit.gguf.file import EXACT, TYPES, StoredTensor
from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.gguf.weights import TensorWeight
from ark_backends.torch_chat.int8 import rounded

ROWS, INPUTS = 9, 512

SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "Q8_0": (0,), "Q4_0": (0,), "Q5_0": (0,), "IQ4_NL": (0,),
          "IQ4_XS": (0,)}  # fmt: skip
"""Where in a block the numbers in 16 bits are; at 0 and 2 in others."""

QUANTIZED = [kind for kind, block, _ in TYPES.values() if block > 1]


def random_rows(kind: str, rows: int = ROWS) -> Any:
    """Blocks of any bytes, but with scales that are small numbers."""
    draw = np.random.default_rng(len(kind) + rows)
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    raw = draw.integers(0, 256, (rows, INPUTS // block, size), dtype=np.uint8)
    if block > 1:
        for place in SCALES.get(kind, (0, 2)):
            numbers = draw.normal(size=raw.shape[:2]).astype(np.float16)
            raw[:, :, place : place + 2] = numbers.view(np.uint8).reshape(*raw.shape[:2], 2)
    else:
        floats = draw.normal(size=(rows, INPUTS)).astype(np.float32)
        raw = gguf.quantize(floats, GGMLQuantizationType[kind]).view(np.uint8)
    return np.ascontiguousarray(raw).reshape(rows, -1)


def weight(kind: str, raw: Any, **more: Any) -> TensorWeight:
    return TensorWeight(StoredTensor("w", kind, (len(raw), INPUTS), memoryview(raw).cast("B")), **more)


@pytest.mark.parametrize("kind", [kind for kind, _, _ in TYPES.values()])
@pytest.mark.parametrize("loops", [True, False])
def test_every_type(kind: str, loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not loops:
        monkeypatch.setattr("ark_backends.torch_chat.gguf.weights._loops", lambda: None)
    raw = random_rows(kind)
    expected = torch.from_numpy(gguf.dequantize(raw, GGMLQuantizationType[kind]).astype(np.float32))
    found = weight(kind, raw)
    assert torch.equal(found.rows(0, ROWS), expected)
    assert torch.equal(found.rows(2, 5), expected[2:5])
    ids = torch.tensor([8, 0, 3, 3])
    assert torch.equal(found.select(ids), expected[ids])
    assert torch.equal(found.in_memory.select(ids), expected[ids])
    other = torch.tensor([4, 3, 2, 1, 0, 8, 7, 6, 5])
    turned = weight(kind, raw, order=other.numpy())
    assert torch.equal(turned.rows(0, ROWS), expected[other])
    assert torch.equal(turned.select(ids), expected[other][ids])
    whole = found.rounded()
    if kind in EXACT:
        steps = whole.steps.view(ROWS, -1, 32).float() * whole.scale[:, :, None].float()
        assert torch.equal(steps.view(ROWS, INPUTS), expected)
    else:
        assert torch.equal(whole.steps, rounded(expected).steps)
        assert torch.equal(whole.scale, rounded(expected).scale)


def test_the_sizes_are_those_of_the_package() -> None:
    sizes = {kind: (block, size) for kind, block, size in TYPES.values()}
    known = {GGMLQuantizationType[kind]: number for number, (kind, _, _) in TYPES.items()}
    assert {kind.name: GGML_QUANT_SIZES[kind] for kind in known} == sizes
    assert {int(kind): number for kind, number in known.items()} == {number: number for number in TYPES}


@pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for compiled kernels")
def test_what_is_not_finite_stays_so() -> None:
    from ark_backends.torch_chat.compiled import blocks

    rows = np.zeros((3, 64), dtype=np.float32)
    rows[0, 3], rows[1, 40], rows[2, 5] = np.nan, np.inf, 1e-42
    _, scale = blocks.rounded(rows)
    assert np.isnan(scale[0, 0])
    assert np.isinf(scale[1, 1])
    assert np.isfinite(scale).sum() == 4


def test_many_rows_are_read_by_several_threads() -> None:
    raw = random_rows("Q4_1", 3000)
    expected = torch.from_numpy(gguf.dequantize(raw, GGMLQuantizationType.Q4_1))
    found = weight("Q4_1", raw)
    assert torch.equal(found.rows(0, 3000), expected)
    assert torch.equal(found.rounded().steps, rounded(expected).steps)
