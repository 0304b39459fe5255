"""Weights in 8 bits: what they become, and linear layers by themselves."""

import pytest
import torch

from ark.config import ConfigError
from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.devices import int8_wanted as wanted
from ark_backends.torch_chat.int8 import GROUP, rounded

CPU = torch.device("cpu")
on_this_machine = pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for int8")


def rows(count, inputs=96):
    return torch.randn(count, inputs, generator=torch.Generator().manual_seed(count))


def test_a_group_has_a_scale_of_its_own():
    weight = rows(40, 96)
    weight[3, 40] = 1000.0
    whole = rounded(weight)
    assert whole.steps.shape == (40, 96)
    assert whole.scale.shape == (40, 3)
    assert (whole.steps.dtype, whole.scale.dtype) == (torch.int8, torch.float16)
    groups = whole.steps.view(40, 3, GROUP)
    assert int(groups.abs().amax()) == 127
    back = (groups.float() * whole.scale.float()[:, :, None]).view(40, 96)
    error = (back - weight).abs().view(40, 3, GROUP).amax(2)
    # Half a step, and what the scale itself is rounded by.
    assert bool((error <= whole.scale.float() * 0.57).all())


def test_rounding_what_is_rounded_changes_nothing():
    whole = rounded(rows(40, 96))
    back = (whole.steps.view(40, 3, GROUP).float() * whole.scale.float()[:, :, None]).view(40, 96)
    again = rounded(back)
    assert torch.equal(again.steps, whole.steps)
    assert torch.equal(again.scale, whole.scale)


def test_zeros_widths_that_are_no_groups_and_what_is_not_finite():
    whole = rounded(torch.zeros(2, 33))
    assert whole.steps.shape == (2, 64)
    assert not whole.steps.any()
    weight = torch.ones(2, 64)
    weight[1, 40] = float("nan")
    scale = rounded(weight).scale
    assert torch.isfinite(scale).tolist() == [[True, True], [True, False]]


@pytest.fixture
def layer():
    return rows(200), torch.randn(200, generator=torch.Generator().manual_seed(3))


def module(layer, threads=2):
    from ark_backends.torch_chat.compiled.linear import Int8Module
    from ark_backends.torch_chat.compiled.packing import Arena
    from ark_backends.torch_chat.compiled.team import Team

    weight, bias = layer
    linear = torch.nn.Linear(*weight.T.shape)
    linear.weight.data, linear.bias.data = weight, bias
    return Int8Module(linear, Team(threads), Arena())


@on_this_machine
@pytest.mark.parametrize("inputs", [96, 70])
def test_near_the_layer_it_stands_for(inputs):
    layer = (rows(200, inputs), torch.ones(200))
    x = rows(50, inputs)
    expected = torch.nn.functional.linear(x, *layer)
    error = (module(layer)(x) - expected).norm(dim=1) / expected.norm(dim=1)
    assert 0 < float(error.max()) < 0.015


@on_this_machine
@pytest.mark.parametrize("threads", [1, 3])
def test_a_row_does_not_depend_on_its_neighbours(layer, threads):
    small, alone = module(layer, threads), module(layer, 1)
    x = rows(70)
    expected = torch.cat([alone(row[None]) for row in x])
    x[5] *= 1000.0
    x[11], x[12], x[13, 7] = 0.0, float("nan"), float("inf")
    for count in (*range(1, 41), 70):
        for start in (0, 4, 30):
            for place, row in enumerate(small(x[start : start + count]), start):
                if place not in (5, 11, 12, 13):
                    assert torch.equal(row, expected[place]), (count, start, place)
    assert torch.equal(small(x)[11], layer[1])
    assert not torch.isfinite(small(x)[12:14]).any()


@on_this_machine
def test_in_the_place_of_a_module(layer):
    small = module(layer)
    x = rows(6).view(1, 2, 3, 96).bfloat16()
    got = small(x)
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got.float(), torch.nn.functional.linear(x.float(), *layer), atol=0.4, rtol=0.05)
    assert small(torch.zeros(0, 96)).shape == (0, 200)


def test_which_models_are_quantized(monkeypatch):
    large, small = 1 << 30, 1 << 20
    monkeypatch.setattr(compiled, "unable", lambda: None)
    assert [wanted("auto", CPU, size) for size in (large, small)] == [True, False]
    assert [wanted("int8", CPU, size) for size in (large, small)] == [True, True]
    assert not wanted("none", CPU, large)
    assert not wanted("auto", torch.device("cuda"), large)
    with pytest.raises(ConfigError, match="cuda"):
        wanted("int8", torch.device("cuda"), large)
    monkeypatch.setattr(compiled, "unable", lambda: "this CPU lacks the instructions")
    assert not wanted("auto", CPU, large)
    with pytest.raises(ConfigError, match="lacks the instructions"):
        wanted("int8", CPU, large)
