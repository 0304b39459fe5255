"""Linear layers in oneDNN's order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from ark_backends.kit.packed import PackedLinear, pack, rounded_up


class Small(torch.nn.Module):
    """Two layers of one shape, one without a bias, and one that is no plain linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Linear(48, 48)
        self.two = torch.nn.Linear(48, 48, bias=False)
        self.odd = torch.nn.Bilinear(4, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.relu(self.one(x)))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.manual_seed(3)
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (17, 48), (1, 200, 48), (1, 203, 48), (3, 5, 48), (0, 48)])
def test_computes_what_the_layer_computes(shape: tuple[int, ...], bias: bool) -> None:
    layer = torch.nn.Linear(48, 80, bias=bias)
    x = torch.randn(shape)
    torch.testing.assert_close(PackedLinear(layer.weight, layer.bias)(x), layer(x), rtol=1e-5, atol=1e-5)


def test_few_numbers_of_rows_are_computed() -> None:
    sizes = [rounded_up(rows) for rows in range(1, 2049)]
    assert all(rows <= size <= rows * 9 / 8 for rows, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert len(set(sizes)) <= 16 + 7 * 8


def test_the_weight_can_be_looked_at() -> None:
    weight = torch.randn(80, 48)
    packed = PackedLinear(weight)
    assert torch.equal(packed.weight, weight)
    assert packed.bias is None


def test_a_row_is_the_same_bits_whatever_stands_beside_it() -> None:
    packed = PackedLinear(torch.randn(130, 96), torch.randn(130))
    x = torch.randn(300, 96)
    x[150] *= 1000
    whole = packed(x)
    for count in (1, 2, 15, 16, 17, 64, 149):
        assert torch.equal(packed(x[:count]), whole[:count])


def test_packing_a_model_changes_its_layers_and_not_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small()
    x = torch.randn(20, 48)
    before = model(x)
    # On a machine where torch's own way is as fast, nothing would be packed.
    monkeypatch.setattr("ark_backends.kit.packed.FASTER", float("inf"))
    assert pack(model) == 2
    assert type(model.one) is PackedLinear
    assert type(model.odd) is torch.nn.Bilinear
    torch.testing.assert_close(model(x), before, rtol=1e-5, atol=1e-5)


def test_layers_that_would_not_be_faster_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Small()
    monkeypatch.setattr("ark_backends.kit.packed.FASTER", 0.0)
    assert pack(model) == 0
    assert type(model.one) is torch.nn.Linear


def test_layers_in_another_type_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ark_backends.kit.packed.FASTER", float("inf"))
    assert pack(Small().bfloat16()) == 0


def test_a_torch_without_onednn_keeps_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ark_backends.kit.packed.FASTER", float("inf"))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pack(Small()) == 0


def test_wrong_results_keep_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ark_backends.kit.packed.FASTER", float("inf"))
    monkeypatch.setattr("ark_backends.kit.packed.TOLERANCE", -1.0)
    assert pack(Small()) == 0


SHAPES = """
import psutil, torch
import ark_backends.kit.packed
from ark.process import memory
steps = torch.ops.onednn.qlinear_prepack(torch.ones(1536, 576, dtype=torch.int8), [8, 576])
scale, zeros = torch.ones(1536), torch.zeros(1536, dtype=torch.long)
def compute(rows):
    x = torch.ones(rows, 576, dtype=torch.uint8)
    torch.ops.onednn.qlinear_pointwise(x, 1.0, 0, steps, scale, zeros, None, 1.0, 0, torch.float32, "none", [], "")
def resident():
    memory.trim()
    return psutil.Process().memory_info().rss >> 20
compute(800)
before = resident()
for rows in range(1, 800):
    compute(rows)
print(resident() - before)
"""


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_products_of_many_shapes_leave_little_behind() -> None:
    def left_behind(**more: str) -> int:
        variables = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")} | more
        run = subprocess.run([sys.executable, "-c", SHAPES], env=variables, capture_output=True, text=True, check=True)
        return int(run.stdout)

    # What somebody has set himself is left alone.
    assert left_behind() < 0.6 * left_behind(ONEDNN_PRIMITIVE_CACHE_CAPACITY="1024")
