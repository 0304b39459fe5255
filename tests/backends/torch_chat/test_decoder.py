"""The fast pass: which models it takes, and that no row of it knows of another."""

import copy

import pytest
import torch

from ark_backends.torch_chat import blocks, int8
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.decoder import Decoder, _gated
from ark_backends.torch_chat.int8 import Int8Linear
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.rope import BLOCK, Rope
from ark_backends.torch_chat.runner import Runner
from ark_backends.torch_chat.ways import Ways

LOUD = 198
"""The id whose embedding is made a thousand times as large."""


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_families_are_computed_by_it(architecture, tiny):
    model = tiny(architecture)
    assert model.runner.decoder is not None
    tokens = list(range(3, 60))
    with torch.inference_mode():
        expected = model.plain(torch.tensor([tokens])).logits[0]
    torch.testing.assert_close(model.runner.logits(tokens), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["Gemma2", "Gemma3Text", "GptOss"])
def test_others_are_left_to_transformers(architecture, tiny):
    assert tiny(architecture).runner.decoder is None


def test_what_is_not_like_the_family_is_not_taken(llama):
    model = copy.deepcopy(llama.plain)
    assert Decoder.fits(model)
    model.config.hidden_act = "gelu"
    assert not Decoder.fits(model)
    model = copy.deepcopy(llama.plain)
    model.model.layers[1].mlp.up_proj = torch.nn.Identity()
    assert not Decoder.fits(model)


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


@pytest.mark.parametrize("threads", [1, 3, 5])
@pytest.mark.parametrize("width", [608, 100])
def test_gates_do_not_depend_on_how_rows_are_shared_among_threads(threads, width):
    joined = torch.randn(401, 2 * width)
    before = torch.get_num_threads()
    with torch.inference_mode():
        expected = torch.cat([_gated(row[None].clone()) for row in joined])
        try:
            torch.set_num_threads(threads)
            got = _gated(joined)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(got, expected)


@pytest.mark.skipif(int8.supported() is not None, reason="this CPU is not one for int8")
@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("ways", [Ways(), Ways(blocks=True, each_up_to=24)], ids=["usual", "others"])
def test_a_sequence_in_int8_does_not_depend_on_its_neighbours(architecture, ways, tiny, monkeypatch):
    monkeypatch.setattr(blocks, "WORTH", 0)
    runner = quantized(tiny(architecture).plain)
    runner.ways = ways
    alone = follow(runner, others=0)
    for others in (1, 2, 3, 7, 16):
        for got, expected in zip(follow(runner, others), alone, strict=True):
            assert torch.equal(got, expected), others


@pytest.mark.parametrize("architecture", ["Gemma2", "GptOss", "Llama"])
def test_other_ways_are_taken_only_where_they_compute_the_same(architecture, tiny, monkeypatch):
    monkeypatch.setattr(blocks, "WORTH", 0)
    plain = copy.deepcopy(tiny(architecture).plain)
    if architecture == "Llama":
        plain = plain.to(torch.bfloat16)
    runner = Runner(plain)
    assert not runner.spec.has_ways
    expected = follow(runner, others=1)
    runner.ways = Ways(blocks=True, each_up_to=1024)
    for got, usual in zip(follow(runner, others=1), expected, strict=True):
        assert torch.equal(got, usual)
    runner.measure()
    assert runner.ways == Ways()


def quantized(plain):
    model = copy.deepcopy(plain)
    with torch.no_grad():
        model.get_input_embeddings().weight[LOUD] *= 1000.0
    runner = Runner(model)
    assert runner.speed_up()
    with torch.inference_mode():
        for _, layer, put in runner.decoder.linears():
            put(Int8Linear(layer.weight, layer.bias))
    return runner


def follow(runner, others):
    """Logits of a sequence read and then continued, in steps that it shares with others, some of them loud."""
    kv = KVBuffer(runner.spec, 64)
    logits = [advance(runner, [Piece(kv, range(3, 23))], 0)]
    beside = [KVBuffer(runner.spec, 64) for _ in range(others)]
    for step in range(5):
        singles = [Piece(kv, [30 + step])] + [Piece(one, [LOUD if i % 2 else 40 + i]) for i, one in enumerate(beside)]
        # In every place among the decoded, and beside a prompt that is read in the same step.
        turn = step % len(singles)
        singles = singles[turn:] + singles[:turn]
        prompt = [Piece(KVBuffer(runner.spec, 64), [LOUD, *range(60, 60 + others)])] if others else []
        logits.append(advance(runner, singles + prompt, -turn % len(singles)))
    return logits


def advance(runner, pieces, which):
    logits = runner.forward(pieces, range(len(pieces)))
    for piece in pieces:
        piece.kv.length += len(piece.token_ids)
    return logits[which]
