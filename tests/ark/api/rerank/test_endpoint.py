"""POST /rerank and POST /score, with a backend that counts words."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import pytest
from asgi_client import ECHO, JSON_HEADER, Client, Response, backend_of, running, until

pytestmark = pytest.mark.anyio

TEXTS = ["a dog", "the red cat sleeps", "a cat"]


def words(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "words", "task": "rerank", "backend": "word_reranker:WordReranker", **more}]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


async def rerank(client: Client, documents: Any = TEXTS, *, path: str = "/v1/rerank", **fields: Any) -> Response:
    body = {"model": "words", "query": "red cat", "documents": documents, **fields}
    return await client.request("POST", path, json=body)


async def score(client: Client, text_1: Any, text_2: Any, **fields: Any) -> Response:
    body = {"model": "words", "text_1": text_1, "text_2": text_2, **fields}
    return await client.request("POST", "/score", json=body)


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_a_whole_reply(path: str) -> None:
    async with running(models=words()) as client:
        reply = await rerank(client, path=path)
    assert reply.status == 200, reply.text
    body = reply.json()
    assert body == {
        "id": reply.headers["x-request-id"],
        "object": "list",
        "model": "words",
        "results": [
            {"index": 1, "relevance_score": pytest.approx(sigmoid(1))},
            {"index": 2, "relevance_score": 0.5},
            {"index": 0, "relevance_score": pytest.approx(sigmoid(-1))},
        ],
        "usage": {"prompt_tokens": 14, "total_tokens": 14},
    }


async def test_the_best_few_with_their_documents() -> None:
    documents = [{"text": "a cat", "id": 7}, "a dog", {"text": "red cat"}]
    async with running(models=words()) as client:
        reply = await rerank(client, documents, top_n=2, return_documents=True)
        more = await rerank(client, documents, top_n=9)
        equal = await rerank(client, ["cat", "a cat", "the cat"])
    assert [(one["index"], one["document"]) for one in reply.json()["results"]] == [
        (2, {"text": "red cat"}),
        (0, {"text": "a cat"}),
    ]
    assert len(more.json()["results"]) == 3
    assert [one["index"] for one in equal.json()["results"]] == [0, 1, 2]


async def test_scores_without_the_sigmoid_and_very_large_ones() -> None:
    async with running(models=words(engine={"scale": 5000.0})) as client:
        raw = await rerank(client, raw_scores=True)
        found = await rerank(client)
    assert [one["relevance_score"] for one in raw.json()["results"]] == [5000, 0, -5000]
    assert [one["relevance_score"] for one in found.json()["results"]] == [1, 0.5, 0]


async def test_what_the_engine_gets() -> None:
    async with running(models=words()) as client:
        await rerank(client, ["b"], max_tokens_per_doc=40, max_chunks_per_doc=3, user="somebody")
        await rerank(client, ["b"], max_tokens_per_doc=None, max_chunks_per_doc=None, top_n=None)
        first, second = backend_of(client).jobs
    assert (first.pairs, first.max_tokens, first.max_chunks) == ([("red cat", "b")], 40, 3)
    assert (second.max_tokens, second.max_chunks) == (None, 1)


async def test_scores_of_one_query_and_of_many() -> None:
    async with running(models=words()) as client:
        one = await score(client, "red cat", "a red cat")
        single = await score(client, ["red cat"], ["a red cat"])
        many = await score(client, "cat", ["a dog", "a cat", "a cat"])
        each = await score(client, ["dog", "cat"], ["a dog", "a dog"], raw_scores=True)
        uneven = await score(client, ["dog", "cat"], ["a dog", "a dog", "a dog"])
    body = one.json()
    assert set(body) == {"id", "object", "created", "model", "data", "usage"}
    assert body["data"] == single.json()["data"] == [{"index": 0, "object": "score", "score": sigmoid(1)}]
    assert [item["score"] for item in many.json()["data"]] == [pytest.approx(sigmoid(-1)), 0.5, 0.5]
    assert [item["score"] for item in each.json()["data"]] == [0, -1]
    assert (uneven.status, uneven.error["param"]) == (400, "text_1")
    assert "there are 2, and 3 in 'text_2'" in uneven.error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"query": ""}, "query"),
        ({"query": ["a"]}, "query"),
        ({"query": None}, "query"),
        ({"documents": []}, "documents"),
        ({"documents": "a"}, "documents"),
        ({"documents": ["a", 1]}, "documents[1]"),
        ({"documents": ["a", {"title": "b"}]}, "documents[1].text"),
        ({"documents": [{"text": ["b"]}]}, "documents[0].text"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"top_n": 0}, "top_n"),
        ({"top_n": "2"}, "top_n"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc"),
        ({"max_chunks_per_doc": 17}, "max_chunks_per_doc"),
        ({"return_documents": "yes"}, "return_documents"),
        ({"model": ""}, "model"),
        ({"rank_fields": ["title"]}, "rank_fields"),
    ],
)
async def test_a_bad_field(fields: dict[str, Any], param: str) -> None:
    async with running(models=words()) as client:
        reply = await rerank(client, **fields)
        assert backend_of(client).jobs == []
    assert reply.status == 400
    assert param in (reply.error["param"], reply.error["message"].split("'")[1]), reply.text


async def test_bodies_that_are_no_request() -> None:
    async with running(models=words(), limits={"body_bytes": 1000}) as client:
        replies = [
            await client.request("POST", "/rerank", body=body, headers=[JSON_HEADER])
            for body in (b"", b"[]", b'{"model": "words"', b'{"model": "words"}', json.dumps("x" * 1000).encode())
        ]
        get = await client.get("/v1/rerank")
    assert [reply.status for reply in replies] == [400, 400, 400, 400, 413]
    assert (get.status, get.headers["allow"]) == (405, "POST")


async def test_rank_fields_that_change_nothing() -> None:
    async with running(models=words(), server={"unsupported_parameters": "ignore"}) as client:
        fits = await rerank(client, rank_fields=["text"])
        ignored = await rerank(client, rank_fields=["title"])
    assert (fits.status, fits.headers.get("x-ark-ignored")) == (200, None)
    assert (ignored.status, ignored.headers["x-ark-ignored"]) == (200, "rank_fields")


async def test_models_of_other_tasks_and_unknown_ones() -> None:
    async with running(models=[*words(aliases=["rerank-v3.5"]), ECHO]) as client:
        chat = await rerank(client, model="echo")
        other = await client.request("POST", "/embeddings", json={"model": "words", "input": "a"})
        unknown = await score(client, "a", "b", model="gone")
        alias = await rerank(client, model="rerank-v3.5")
        listed = (await client.get("/v1/models", query="task=rerank")).json()["data"]
    assert (chat.status, chat.error["code"]) == (400, "model_not_supported")
    assert chat.error["message"] == "The model 'echo' does chat, not rerank."
    assert (other.status, other.error["code"]) == (400, "model_not_supported")
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
    assert alias.json()["model"] == "rerank-v3.5"
    assert [(one["id"], one["type"], one["max_model_len"]) for one in listed] == [
        ("words", "rerank", 512),
        ("rerank-v3.5", "rerank", 512),
    ]


async def test_a_key_spends_tokens_and_has_its_models() -> None:
    def key(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **more}

    keys = [key("few", tokens_per_minute=10), key("none", models=["echo"])]
    body = {"model": "words", "query": "red cat", "documents": TEXTS}
    async with running(models=[*words(), ECHO], keys=keys) as client:
        replies = [
            await client.request("POST", "/rerank", json=body, headers=[("authorization", f"Bearer {name}")])
            for name in ("few", "few", "none", "bad")
        ]
    assert [reply.status for reply in replies] == [200, 429, 404, 401]
    assert replies[0].headers["x-ratelimit-remaining-tokens"] == "0"


@pytest.mark.parametrize(("fault", "status", "code"), [("queue_full", 429, "queue_full"), ("engine", 503, None)])
async def test_an_engine_that_fails(fault: str, status: int, code: str | None) -> None:
    async with running(models=words(engine={"fault": fault})) as client:
        reply = await rerank(client)
    assert (reply.status, reply.error["code"]) == (status, code or "engine_failed")


async def test_an_error_names_the_field_of_the_route() -> None:
    async with running(models=words(engine={"fault": "unreadable"})) as client:
        ranked = await rerank(client)
        scored = await score(client, "a", ["b", "c"])
    assert (ranked.error["param"], ranked.error["message"]) == ("documents[1]", "documents[1] is too strange.")
    assert (scored.error["param"], scored.error["message"]) == ("text_2[1]", "text_2[1] is too strange.")


async def test_a_client_that_leaves_cancels_its_job() -> None:
    async with running(models=words(engine={"fault": "hang"})) as client:
        backend = backend_of(client)
        body = {"model": "words", "query": "a", "documents": ["b"]}
        async with client.open("POST", "/rerank", json=body) as exchange:
            await until(lambda: len(backend.jobs) == 1)
            exchange.disconnect()
        assert backend.cancelled == backend.jobs


async def test_metrics() -> None:
    async with running(models=words()) as client:
        await rerank(client)
        told = (await client.get("/metrics")).text
    assert 'ark:rerank_inputs_total{model_name="words"} 3.0' in told
    assert 'ark:model_ready{model_name="words",task="rerank"} 1.0' in told
    assert 'route="/rerank",status="200"' in told
