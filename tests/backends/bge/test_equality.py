"""Vectors are those of FlagEmbedding and of plain transformers, whatever they are batched with."""

import random

import numpy
import pytest
from embedding_jobs import colbert, job, vectors

pytestmark = pytest.mark.anyio

EXACT = 1e-5

TEXTS = (
    "Where is the station?",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 12,
    "Wo ist der Bahnhof?",
    "Ünïcödé, 日本語 and 🙂",
    "The station is where?",
)


def sentences(count, seed=0):
    draw = random.Random(seed)
    return [" ".join(f"w{draw.randrange(60)}" for _ in range(draw.randrange(1, 50))) for _ in range(count)]


async def test_minilm_equals_flagembedding_and_transformers(opened, minilm):
    async with opened(minilm) as backend:
        assert backend.max_length == 256
        assert backend.dimensions == (384,)
        got = await backend.embed(job(*TEXTS))
    import torch
    from FlagEmbedding import FlagModel
    from transformers import AutoModel, AutoTokenizer

    flag = FlagModel(str(minilm), pooling_method="mean", use_fp16=False, devices="cpu")
    assert numpy.abs(vectors(got) - flag.encode(list(TEXTS), max_length=256)).max() < EXACT
    model, tokenizer = AutoModel.from_pretrained(minilm).eval(), AutoTokenizer.from_pretrained(minilm)
    for text, one in zip(TEXTS, got, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        assert one.tokens == inputs["input_ids"].shape[1]
        with torch.inference_mode():
            plain = torch.nn.functional.normalize(model(**inputs).last_hidden_state[0].mean(0), dim=0)
        assert numpy.abs(vectors([one])[0] - plain.numpy()).max() < EXACT


async def test_similar_texts_are_near(opened, minilm):
    async with opened(minilm) as backend:
        got = vectors(await backend.embed(job(TEXTS[0], TEXTS[5], TEXTS[2])))
    assert got[0] @ got[1] > 0.8
    assert got[0] @ got[2] < 0.3


@pytest.mark.parametrize("padding", [False, True])
async def test_m3_equals_flagembedding(opened, m3, padding):
    texts = [*sentences(40), "w1 w1 w1 unknown w2"]
    async with opened(m3, engine={"padding": padding}) as backend:
        assert {"ark_sparse", "ark_colbert"} <= backend.capabilities.parameters
        got = await backend.embed(job(*texts, sparse=True, colbert=True))
        assert (backend.status().padded_tokens > 0) is padding
    from FlagEmbedding import BGEM3FlagModel

    flag = BGEM3FlagModel(str(m3), use_fp16=False, devices="cpu", colbert_dim=24)
    expected = flag.encode(texts, max_length=64, return_dense=True, return_sparse=True, return_colbert_vecs=True)
    assert numpy.abs(vectors(got) - expected["dense_vecs"]).max() < EXACT
    for one, sparse, multi in zip(got, expected["lexical_weights"], expected["colbert_vecs"], strict=True):
        assert one.sparse.keys() == {int(token) for token in sparse}
        assert all(abs(one.sparse[int(token)] - weight) < EXACT for token, weight in sparse.items())
        assert colbert(one).shape == multi.shape == (one.tokens - 1, 24)
        assert numpy.abs(colbert(one) - multi).max() < EXACT
    assert any(one.sparse for one in got)


@pytest.mark.parametrize("padding", [False, True])
async def test_a_vector_does_not_depend_on_its_batch(opened, m3, padding):
    texts = sentences(64, seed=1)
    async with opened(m3, engine={"padding": padding}) as backend:
        together = vectors(await backend.embed(job(*texts)))
        for text, expected in zip(texts[:12], together, strict=False):
            alone = vectors(await backend.embed(job(text)))[0]
            assert numpy.abs(alone - expected).max() < EXACT


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
async def test_pooling(opened, m3, pooling):
    import torch
    from transformers import AutoModel

    rows = [[0, 5, 6, 7, 2], [0, 8, 2], [0, 9, 10, 1, 11, 2]]
    async with opened(m3, engine={"pooling": pooling, "normalize": False}) as backend:
        got = vectors(await backend.embed(job(*rows)))
    model = AutoModel.from_pretrained(m3).eval()
    for row, vector in zip(rows, got, strict=True):
        # Given positions: a padding token in the middle of a text is none to attention here.
        mask = torch.ones(1, len(row), dtype=torch.long)
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([row]), attention_mask=mask).last_hidden_state[0]
        expected = {"cls": hidden[0], "mean": hidden.mean(0), "last": hidden[-1]}[pooling]
        assert numpy.abs(vector - expected.numpy()).max() < EXACT


async def test_smaller_dimensions_are_the_first_numbers_scaled_again(opened, minilm):
    async with opened(minilm, dimensions=(128, 384)) as backend:
        assert backend.dimensions == (384, 128)
        full, small = [vectors(await backend.embed(job("hello", dimensions=size)))[0] for size in (384, 128)]
    assert small.shape == (128,)
    assert numpy.abs(small - full[:128] / numpy.linalg.norm(full[:128])).max() < EXACT


async def test_a_bfloat16_model_is_near(opened, minilm):
    async with opened(minilm) as exact, opened(minilm, engine={"dtype": "bfloat16"}) as half:
        one, other = [vectors(await backend.embed(job(*TEXTS))) for backend in (exact, half)]
    assert ((one * other).sum(1) > 0.999).all()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
async def test_cuda(opened, m3, dtype):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    texts = sentences(40)
    async with opened(m3) as exact, opened(m3, engine={"device": "cuda", "dtype": dtype}) as fast:
        one, other = [vectors(await backend.embed(job(*texts))) for backend in (exact, fast)]
    assert ((one * other).sum(1) > (0.9999 if dtype == "float32" else 0.99)).all()
