"""POST /embeddings when its engine fails, is busy, dies or loads, and what others notice of it."""

from __future__ import annotations

import logging
import threading
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Response, backend_of, running, until
from embeddings_api import WORDS, embed, words
from faulty_embeddings import SECRET

from ark.api.embeddings import render

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("fault", "status", "code"), [("queue_full", 429, "rate_limit_exceeded"), ("engine", 503, "engine_failed")]
)
async def test_what_an_engine_refuses(fault: str, status: int, code: str) -> None:
    async with running(models=words(engine={"fault": fault})) as client:
        reply = await embed(client)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert int(reply.headers["retry-after"]) == (3 if fault == "queue_full" else 5)


async def test_a_bug_in_an_engine_tells_the_client_nothing() -> None:
    async with running(models=words(engine={"fault": "bug"})) as client:
        reply = await embed(client)
    assert reply.status == 500
    assert SECRET not in reply.text
    assert reply.headers["x-request-id"] in reply.error["message"]


async def test_an_engine_that_died() -> None:
    async with running(models=words()) as client:
        backend_of(client).counters = {"alive": False}
        reply = await embed(client)
    assert (reply.status, reply.error["code"]) == (503, "model_failed")


async def test_the_tokens_of_a_request_count_against_the_limits_of_its_key() -> None:
    async with running(models=words(), limits={"key_tokens_per_minute": 5}) as client:
        first = await embed(client, ["hello world", "hello"])
        second = await embed(client, "one two three")
        third = await embed(client)
        listed = await client.get("/v1/models")
    remaining = [reply.headers["x-ratelimit-remaining-tokens"] for reply in (first, second, third)]
    assert (first.status, second.status, third.status) == (200, 200, 429)
    assert remaining == ["2", "0", "0"]
    assert int(third.headers["retry-after"]) >= 1
    assert listed.status == 200


async def test_json_may_be_nested_as_deep_as_the_configuration_says() -> None:
    body = b'{"model": "words", "input": "a", "metadata": [[[1]]]}'
    async with running(models=words(), limits={"json_depth": 4}) as client:
        fits = await client.request("POST", "/v1/embeddings", body=body)
        over = await client.request("POST", "/v1/embeddings", body=body.replace(b"[1]", b"[[1]]"))
    assert (fits.status, over.status, over.error["code"]) == (200, 400, "invalid_json")


async def test_a_client_that_leaves_cancels_its_job() -> None:
    async with running(models=words(engine={"fault": "hang"})) as client:
        backend = backend_of(client)
        body = {"model": "words", "input": ["a", "b"]}
        async with client.open("POST", "/v1/embeddings", json=body) as exchange:
            await until(lambda: len(backend.jobs) == 1)
            exchange.disconnect()
        assert backend.cancelled == backend.jobs
        assert exchange.response.status == 0


async def test_many_requests_at_once_do_not_mix() -> None:
    replies: dict[int, Response] = {}
    async with running(models=words()) as client:

        async def ask(number: int) -> None:
            replies[number] = await embed(client, [f"number{number}", "same"])

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, number)
        alone = {number: await embed(client, [f"number{number}", "same"]) for number in range(30)}
    assert {number: reply.body for number, reply in replies.items()} == {
        number: reply.body for number, reply in alone.items()
    }


async def test_one_line_in_the_log_has_the_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(models=words()) as client:
        reply = await embed(client, ["hello world", "a"], model="text-embedding-ada-002")
        await embed(client, dimensions=3)
    fields = next(record.fields for record in caplog.records if record.message == "request")  # type: ignore[attr-defined]
    counts = {"model": "words", "inputs": 2, "prompt_tokens": 3}
    assert fields.items() >= {"request_id": reply.headers["x-request-id"], **counts}.items()


async def test_large_requests_and_replies_do_not_hold_up_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long happens in a thread; what is small stays where it is."""
    threads: dict[str, list[int]] = {"read": [], "render": []}

    def noting(name: str, work: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            threads[name].append(threading.get_ident())
            return work(*args, **more)

        return run

    from ark.api.embeddings import endpoint as embeddings

    monkeypatch.setattr(embeddings, "read_inputs", noting("read", embeddings.read_inputs))
    monkeypatch.setattr(render, "reply", noting("render", render.reply))
    here = threading.get_ident()
    async with running(models=words()) as client:
        await embed(client, "a")
        assert threads == {"read": [here], "render": [here]}
        await embed(client, ["a" * 50] * 500)
    (_, read), (_, rendered) = threads["read"], threads["render"]
    assert here not in (read, rendered)


async def test_a_chat_model_answers_while_the_embedding_model_loads() -> None:
    loading = WORDS | {"backend": "faulty_embeddings:NeverOpens"}
    async with running(models=[ECHO, loading], server={"load_wait": 0.0}, settle=False) as client:
        await until(lambda: backend_of(client) is not None)
        chat = await client.chat()
        early = await embed(client)
        ready = await client.get("/ready")
    assert chat.status == 200
    assert (early.status, early.error["code"]) == (503, "model_loading")
    assert early.headers["retry-after"] == "5"
    assert (ready.status, ready.error["message"]) == (503, "Not ready: words is loading.")


async def test_the_metrics_of_an_engine() -> None:
    async with running(models=[ECHO, WORDS, WORDS | {"name": "idle"}]) as client:
        await embed(client, ["hello world", "hello"])
        backend_of(client, 1).counters = {"running": 2, "waiting": 5, "batches": 4, "padded_tokens": 1}
        text = (await client.get("/metrics")).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    of_words = {
        name.removesuffix('{model_name="words"}'): float(value)
        for name, value in values.items()
        if name.startswith("ark:embeddings_") and name.endswith('{model_name="words"}')
    }
    assert of_words == {
        "ark:embeddings_running": 2,
        "ark:embeddings_waiting": 5,
        "ark:embeddings_batches_total": 4,
        "ark:embeddings_inputs_total": 2,
        "ark:embeddings_tokens_total": 3,
        "ark:embeddings_padded_tokens_total": 1,
        "ark:embeddings_padded_perc": 0.25,
    }
    assert float(values['ark:embeddings_padded_perc{model_name="idle"}']) == 0
    assert 'ark:num_requests_running{model_name="echo"}' in values
    assert 'ark:num_requests_running{model_name="words"}' not in values
