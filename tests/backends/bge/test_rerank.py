"""Scores are those of FlagEmbedding's FlagReranker, whatever the pairs are batched with."""

import random
import threading

import anyio
import anyio.lowlevel
import pytest
from asgi_client import running
from tiny_reranker import WORDS, save_tiny_reranker, save_tokenizer

from ark.config import ConfigError
from ark.engines.model_files import read_model_files
from ark.engines.rerank import RerankJob
from ark.errors import APIError

pytestmark = pytest.mark.anyio

EXACT = 1e-5


@pytest.fixture(scope="module", params=["xlm_roberta", "bert"])
def reranker(request, tmp_path_factory):
    return save_tiny_reranker(tmp_path_factory.mktemp(request.param), request.param)


def words(draw, most):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(most)))


def pairs(count, seed=0, most=80):
    draw = random.Random(seed)
    return [(f"w1 {words(draw, most)}", words(draw, most)) for _ in range(count)]


def job(given, **more):
    return RerankJob(request_id="test", pairs=given, **more)


def flag_scores(path, given, **more):
    from FlagEmbedding import FlagReranker

    flag = FlagReranker(str(path), use_fp16=False, devices="cpu", max_length=64)
    return flag.compute_score([list(pair) for pair in given], **more)


@pytest.mark.parametrize("padding", [False, True])
async def test_scores_equal_flagreranker(opened, reranker, padding):
    given = [*pairs(40), ("w5 unknown w7", "w5 unknown")]
    async with opened(reranker, task="rerank", engine={"padding": padding}) as backend:
        assert backend.max_length == 64
        got = await backend.rerank(job(given))
        status = backend.status()
    assert [one.score for one in got] == pytest.approx(flag_scores(reranker, given), abs=EXACT)
    assert max(one.tokens for one in got) == 64
    assert (status.inputs, status.tokens, status.jobs_finished) == (41, sum(one.tokens for one in got), 1)
    # Without padding only where the model allows it, which both do.
    assert (status.padded_tokens > 0) is padding


async def test_scores_are_the_same_beside_other_jobs(opened, reranker):
    given = pairs(30, seed=1)
    found = [None] * 3
    async with opened(reranker, task="rerank") as backend:
        alone = await backend.rerank(job(given))

        async def ask(number):
            found[number] = await backend.rerank(job(given[number * 10 :][:10], owner=str(number)))

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(ask, number)
    together = [one.score for part in found for one in part]
    assert together == pytest.approx([one.score for one in alone], abs=EXACT)


async def test_a_long_document_is_cut_or_read_in_pieces(opened, reranker):
    draw = random.Random(2)
    query, document = "w1 w2", [draw.choice(WORDS) for _ in range(150)]
    text = " ".join(document)
    async with opened(reranker, task="rerank") as backend:
        (whole,) = await backend.rerank(job([(query, "w3")]))
        room = 64 - whole.tokens + 1
        parts = [" ".join(document[start : start + room]) for start in range(0, 150, room)]
        each = await backend.rerank(job([(query, part) for part in parts]))
        for chunks in (1, 2, 16):
            (got,) = await backend.rerank(job([(query, text)], max_chunks=chunks))
            assert got.score == pytest.approx(max(one.score for one in each[:chunks]), abs=EXACT)
            assert got.tokens == sum(one.tokens for one in each[:chunks])
        (ten,) = await backend.rerank(job([(query, " ".join(document[:10]))]))
        (cut,) = await backend.rerank(job([(query, text)], max_tokens=10, max_chunks=16))
    assert (cut.score, cut.tokens) == (pytest.approx(ten.score, abs=EXACT), ten.tokens)


async def test_megabytes_of_text_are_cut_soon(opened, reranker):
    async with opened(reranker, task="rerank") as backend:
        (long,) = await backend.rerank(job([("w1 " * 2_000_000, "w2 " * 2_000_000)]))
        (short,) = await backend.rerank(job([("w1 " * 48, "w2 " * 64)]))
    assert (long.score, long.tokens) == (pytest.approx(short.score, abs=EXACT), 64)


async def test_numbers_that_are_not_finite_are_the_error_of_the_document(opened, reranker):
    import torch

    async with opened(reranker, task="rerank") as backend:
        scorer = backend._engine._encoder
        kept, scorer._head = scorer._head, lambda first: torch.full((len(first),), torch.inf)
        with pytest.raises(APIError) as error:
            await backend.rerank(job([("w1", "w2")]))
        scorer._head = kept
        assert (error.value.param, error.value.code) == ("documents[0]", "engine_failed")
        assert len(await backend.rerank(job([("w1", "w2")]))) == 1


async def test_an_empty_document_is_one_without_tokens(opened, reranker):
    import torch
    from transformers import AutoModelForSequenceClassification

    # FlagReranker itself scores the query alone then, under transformers 5.
    model = AutoModelForSequenceClassification.from_pretrained(reranker).eval()
    bert = model.config.model_type == "bert"
    ids = torch.tensor([[0, 5, 2, 2] if bert else [0, 5, 2, 2, 2]])
    types = {"token_type_ids": torch.tensor([[0, 0, 0, 1]])} if bert else {}
    with torch.inference_mode():
        expected = float(model(input_ids=ids, **types).logits)
    async with opened(reranker, task="rerank") as backend:
        (got,) = await backend.rerank(job([("w1", "")]))
    assert (got.score, got.tokens) == (pytest.approx(expected, abs=EXACT), ids.shape[1])


async def test_a_cancelled_job_is_computed_no_more(opened, reranker):
    gate = threading.Event()
    async with opened(reranker, task="rerank") as backend:
        backend._engine._call(gate.wait)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.rerank, job(pairs(5)))
            while not backend._engine._submitted:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        gate.set()
        assert len(await backend.rerank(job([("w1", "w2")]))) == 1
        status = backend.status()
    assert (status.jobs_cancelled, status.jobs_finished, status.waiting) == (1, 1, 0)
    assert status.inputs == 1


def test_the_task_is_seen_in_the_files(reranker, tmp_path):
    assert read_model_files(reranker).task == "rerank"
    many = save_tiny_reranker(tmp_path, "bert", num_labels=3)
    with pytest.raises(ConfigError, match="a BertForSequenceClassification"):
        read_model_files(many)


async def test_a_classifier_of_more_labels_is_refused(opened, tmp_path):
    with pytest.raises(ConfigError, match="has 3 labels; a reranker has one"):
        async with opened(save_tiny_reranker(tmp_path, "bert", num_labels=3), task="rerank"):
            pass


async def test_options_of_embeddings_are_refused(opened, reranker):
    with pytest.raises(ConfigError, match=r"engine\.pooling and engine\.normalize are for embeddings"):
        async with opened(reranker, task="rerank", engine={"pooling": "mean"}):
            pass


async def test_the_route_gives_flagrerankers_normalized_scores(reranker):
    given = [("w1 w2 w3", document) for _, document in pairs(12, seed=3)]
    expected = flag_scores(reranker, given, normalize=True)
    model = {"name": "tiny", "task": "rerank", "path": str(reranker), "engine": {"device": "cpu"}}
    body = {"model": "tiny", "query": "w1 w2 w3", "documents": [document for _, document in given], "top_n": 5}
    async with running(models=[model]) as client:
        reply = (await client.request("POST", "/v1/rerank", json=body)).json()
    got = [(one["index"], one["relevance_score"]) for one in reply["results"]]
    best = sorted(enumerate(expected), key=lambda one: -one[1])[:5]
    assert [index for index, _ in got] == [index for index, _ in best]
    assert [score for _, score in got] == pytest.approx([score for _, score in best], abs=EXACT)


async def test_a_head_that_is_another_is_refused(opened, tmp_path):
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(6)
    save_tokenizer(tmp_path)
    config = DistilBertConfig(vocab_size=64, dim=32, hidden_dim=48, n_layers=1, n_heads=4, num_labels=1)
    DistilBertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="does not compute the head of DistilBertForSequenceClassification"):
        async with opened(tmp_path, task="rerank"):
            pass
