"""What a decoder consists of, and which models are taken for one."""

import copy

import pytest
import torch

from ark_backends.torch_chat.rope import BLOCK, Rope
from ark_backends.torch_chat.structure import Structure


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3", "Mistral", "Gemma2", "Gemma3Text"])
def test_families_are_known(architecture, tiny):
    assert Structure.fits(tiny(architecture).plain)


def test_others_are_left_to_transformers(tiny):
    assert not Structure.fits(tiny("GptOss").plain)


def test_what_is_not_like_the_family_is_not_taken(llama):
    model = copy.deepcopy(llama.plain)
    assert Structure.fits(model)
    model.config.hidden_act = "relu"
    assert not Structure.fits(model)
    model = copy.deepcopy(llama.plain)
    model.model.layers[1].mlp.up_proj = torch.nn.Identity()
    assert not Structure.fits(model)
    model = copy.deepcopy(llama.plain)
    model.model.rotary_emb.inv_freq = model.model.rotary_emb.inv_freq[:2]
    assert not Structure.fits(model)


def test_positions_are_those_of_the_model_at_any_length(llama):
    rotary = llama.plain.model.rotary_emb
    rope = Rope(rotary, torch.device("cpu"))
    places = torch.tensor([0, 7, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
    cosine, sine = rope.at(places, int(places[-1]))
    expected = rotary(torch.zeros(0), places[None])
    torch.testing.assert_close(cosine[:, 0], expected[0][0])
    half = rope.width // 2
    torch.testing.assert_close(sine[:, 0, half:], expected[1][0][:, half:])
    torch.testing.assert_close(sine[:, 0, :half], -expected[1][0][:, :half])
    assert torch.equal(Rope(rotary, torch.device("cpu")).at(places[:2], 7)[0], cosine[:2])
