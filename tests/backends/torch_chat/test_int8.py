"""Linear layers in 8 bits: near the layer they stand for, and each row by itself to the last bit."""

import pytest
import torch

from ark.config import ConfigError
from ark_backends.torch_chat import int8
from ark_backends.torch_chat.int8 import Int8Linear, Int8Module, Kernels, kernels, wanted

pytestmark = pytest.mark.skipif(int8.supported() is not None, reason="this CPU is not one for int8")

PLAIN, PACKED, BOTH = Kernels(True, False), Kernels(False, True), Kernels(True, True)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


@pytest.fixture
def layer():
    draw = torch.Generator().manual_seed(3)
    return torch.randn(200, 96, generator=draw), torch.randn(200, generator=draw)


def rows(count, inputs=96):
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(count))


def test_near_the_layer_it_stands_for(layer):
    x, factor = rows(50), torch.rand(50, 1) + 0.1
    expected = torch.nn.functional.linear(x * factor, *layer)
    error = (Int8Linear(*layer)(x, factor) - expected).norm(dim=1) / expected.norm(dim=1)
    assert 0 < float(error.max()) < 0.02


def test_what_it_computes(layer):
    weight, bias = layer
    x = rows(3)
    scale = weight.abs().amax(1, keepdim=True) / 127
    steps = x.abs().amax(1, keepdim=True) / 127
    expected = ((x / steps).round() * steps).double() @ ((weight / scale).round() * scale).double().T + bias
    torch.testing.assert_close(Int8Linear(weight, bias)(x).double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("choice", [PLAIN, PACKED, BOTH], ids=["plain", "packed", "both"])
def test_a_row_does_not_depend_on_its_neighbours(layer, choice):
    small = Int8Linear(*layer, choice)
    alone = Int8Linear(*layer, PLAIN)
    x = rows(70)
    expected = torch.cat([alone(row[None]) for row in x])
    x[5] *= 1000.0  # an outlier that one scale for all rows would spread to all of them
    x[11], x[12], x[13, 7] = 0.0, float("nan"), float("inf")
    for count in (*range(1, 41), 70):
        for start in (0, 4, 30):
            got = small(x[start : start + count])
            for place, row in enumerate(got, start):
                if place not in (5, 11, 12, 13):
                    assert torch.equal(row, expected[place]), (count, start, place)


def test_rows_of_zeros_and_no_rows(layer):
    small = Int8Linear(*layer)
    assert torch.equal(small(torch.zeros(2, 96)), layer[1].expand(2, 200))
    assert small(torch.zeros(0, 96)).shape == (0, 200)


def test_in_the_place_of_a_module():
    linear = torch.nn.Linear(32, 64)
    module = Int8Module(Int8Linear(linear.weight, linear.bias), 32)
    x = rows(6, 32).view(1, 2, 3, 32).bfloat16()
    got = module(x)
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got.float(), linear(x.float()), atol=0.05, rtol=0.05)


def test_kernels_that_differ_are_not_mixed(monkeypatch):
    shape = (48, 40)
    monkeypatch.setattr(int8, "_chosen", {})
    assert kernels(*shape).plain or kernels(*shape).packed
    monkeypatch.setattr(int8, "_chosen", {})
    monkeypatch.setattr(int8, "packed", lambda steps, matrix, scale: torch.zeros(len(steps), len(scale)))
    assert kernels(*shape) == PLAIN

    def fails(steps):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(int8, "_chosen", {})
    monkeypatch.setattr(int8, "pack", fails)
    assert kernels(*shape) == PLAIN


def test_which_models_are_quantized(monkeypatch):
    large, small = 1 << 30, 1 << 20
    assert [wanted("auto", CPU, size) for size in (large, small)] == [True, False]
    assert [wanted("int8", CPU, size) for size in (large, small)] == [True, True]
    assert not wanted("none", CPU, large)
    assert not wanted("auto", torch.device("cuda"), large)
    with pytest.raises(ConfigError, match="cuda"):
        wanted("int8", torch.device("cuda"), large)
    monkeypatch.setattr(int8, "_vnni", lambda: False)
    assert not wanted("auto", CPU, large)
    with pytest.raises(ConfigError, match="VNNI"):
        wanted("int8", CPU, large)
    monkeypatch.setattr(int8, "_vnni", lambda: True)
    saturated = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: saturated(a, b).clamp(-(2**15), 2**15))
    with pytest.raises(ConfigError, match="not exact"):
        wanted("int8", CPU, large)
