from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest
from asgi_client import ECHO, Client, backend_of, chat_request, make_config, running, settled, until
from prometheus_client.exposition import generate_latest
from scraped import Scrape, families, scrape

from ark.app import create_app
from ark.engines.chat import TokenBatch
from ark.errors import APIError
from ark.ops.requests import MAX_REASONS, Histogram, JobRecord, RequestMetrics, RequestRecord

pytestmark = pytest.mark.anyio

CHAT = ("POST", "/v1/chat/completions")
FAULTY: dict[str, Any] = {"name": "echo", "backend": "faulty_backend:Faulty"}
WORDS: dict[str, Any] = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}
OF_ECHO = {"model_name": "echo"}


def faulty(**engine: Any) -> dict[str, Any]:
    return FAULTY | {"engine": engine}


def finished(told: Scrape, model: str = "echo") -> dict[str, float]:
    """Replies of a model by how they ended."""
    reasons = ("stop", "length", "abort", "error")
    return {reason: told("request_success_total", model_name=model, finished_reason=reason) for reason in reasons}


def no_reply(**counts: int) -> dict[str, float]:
    return {"stop": 0, "length": 0, "abort": 0, "error": 0} | counts


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_is_measured(stream: bool) -> None:
    async with running(models=[ECHO | {"engine": {"prefill_seconds": 0.02}}]) as client:
        await client.chat("hello", stream=stream)
        told = await scrape(client)
    prompt = len("user: hello\nassistant: ")
    assert finished(told) == no_reply(stop=1)
    assert told("http_requests_total", route="/chat/completions", method="POST", status="200") == 1
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_prefill_time_seconds"):
        assert told(f"{name}_count", **OF_ECHO) == 1
        assert told(f"{name}_sum", **OF_ECHO) >= 0.02
    for name in ("request_queue_time_seconds", "request_decode_time_seconds"):
        assert told(f"{name}_count", **OF_ECHO) == 1
        assert told(f"{name}_sum", **OF_ECHO) < told("e2e_request_latency_seconds_sum", **OF_ECHO)
    # Five letters and the end of the turn.
    assert told("inter_token_latency_seconds_count", **OF_ECHO) == 5
    assert told("request_prompt_tokens_sum", **OF_ECHO) == prompt
    assert told("request_generation_tokens_sum", **OF_ECHO) == 6
    assert told("engine_jobs_total", outcome="finished", **OF_ECHO) == 1


async def test_a_reply_that_is_cut_off_or_stopped() -> None:
    async with running() as client:
        await client.chat("hello", max_tokens=2)
        await client.chat("hello", stop="l")
        told = await scrape(client)
    assert finished(told) == no_reply(length=1, stop=1)
    assert told("request_generation_tokens_sum", **OF_ECHO) == 2 + 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_aborts_its_reply(stream: bool) -> None:
    models = [ECHO | {"engine": {"tokens_per_second": 500}}]
    async with running(models=models) as client:
        async with client.open(*CHAT, **chat_request("x" * 3000, stream=stream)) as one:
            if stream:
                await one.until(4)
            else:
                await until(lambda: backend_of(client).status().running == 1)
            one.disconnect()
        told = await scrape(client)
    assert finished(told) == no_reply(abort=1)
    assert told("e2e_request_latency_seconds_count", **OF_ECHO) == 0
    assert told("http_requests_total", route="/chat/completions", method="POST", status="499") == 1


async def test_a_server_that_stops_aborts_its_replies() -> None:
    models = [ECHO | {"engine": {"tokens_per_second": 500}}]
    async with running(models=models) as client:
        async with client.open(*CHAT, **chat_request("x" * 3000, stream=True)) as one:
            await one.until(4)
            await client.app.drain(0)
        told = Scrape(client.app.services.metrics.text().decode())
    assert finished(told) == no_reply(abort=1)
    assert told("requests_refused_total", reason="draining") == 1


@pytest.mark.parametrize("when", ["admission", "prefill", "middle"])
async def test_an_engine_that_fails(when: str) -> None:
    async with running(models=[faulty(fault="engine", when=when)]) as client:
        await client.chat("hello", stream=True)
        told = await scrape(client)
    assert finished(told) == no_reply(error=1)
    assert told("requests_refused_total", reason="engine_failed") == 1
    status = "200" if when == "middle" else "503"
    if when != "prefill":
        assert told("http_requests_total", route="/chat/completions", method="POST", status=status) == 1
    assert told("e2e_request_latency_seconds_count", **OF_ECHO) == 0


async def test_a_bug_is_counted_without_its_words() -> None:
    async with running(models=[faulty(fault="bug")]) as client:
        await client.chat("hello")
        told = await scrape(client)
    assert finished(told) == no_reply(error=1)
    assert told("requests_refused_total", reason="server_error") == 1


async def test_what_an_engine_does_not_take_is_no_reply() -> None:
    async with running(models=[faulty(fault="queue_full")]) as client:
        assert (await client.chat("hello")).status == 429
        told = await scrape(client)
    assert finished(told) == no_reply()
    assert told("requests_refused_total", reason="queue_full") == 1
    assert told("http_requests_total", route="/chat/completions", method="POST", status="429") == 1


async def test_requests_are_refused_for_reasons() -> None:
    async with running() as client:
        await client.get("/v1/nothing")
        await client.request("PUT", "/v1/models")
        await client.chat("hello", temperature=9)
        await client.chat("hello", model="other")
        await client.get("/v1/models/other")
        told = await scrape(client)
    reasons = {labels: value for (name, labels), value in told.values.items() if name == "ark:requests_refused_total"}
    assert reasons == {
        frozenset({("reason", reason)}): count
        for reason, count in {
            "unknown_url": 1,
            "method_not_allowed": 1,
            "invalid_value": 1,
            "model_not_found": 2,
        }.items()
    }
    assert told("http_requests_total", route="none", method="GET", status="404") == 1
    assert told("http_requests_total", route="/models/{id}", method="GET", status="404") == 1


async def test_embeddings_are_measured() -> None:
    async with running(models=[WORDS]) as client:
        body = {"model": "words", "input": ["one text", "another"]}
        await client.request("POST", "/embeddings", json=body)
        await client.request("POST", "/embeddings", json=body | {"dimensions": 7})
        told = await scrape(client)
    assert finished(told, "words") == no_reply(stop=1)
    assert told("e2e_request_latency_seconds_count", model_name="words") == 1
    assert told("http_requests_total", route="/embeddings", method="POST", status="200") == 1
    assert not [labels for name, labels in told.values if "token_seconds" in name and ("model_name", "words") in labels]


async def test_every_series_of_a_model_is_there_before_its_first_request() -> None:
    async with running(models=[ECHO, WORDS]) as client:
        before = {name for name, _ in (await scrape(client)).values}
        await client.chat("hello")
        await client.request("POST", "/embeddings", json={"model": "words", "input": "hello"})
        after = {name for name, _ in (await scrape(client)).values}
    assert after == before | {"ark:http_requests_total"}


async def test_nothing_that_a_client_sends_becomes_a_label() -> None:
    async def ask(client: Client, word: str) -> None:
        await client.get(f"/v1/{word}")
        await client.get(f"/v1/models/{word}")
        await client.get(f"/v1/sessions/{word}")
        await client.request(word.upper(), "/v1/models")
        await client.chat(word, model=word, user=word, headers=[("x-request-id", word)])
        await client.chat(word, headers=[("cookie", f"ark_session_id={word}")])

    async with running() as client:
        await ask(client, "first")
        before = set((await scrape(client)).values)
        await ask(client, "second")
        await ask(client, "x" * 500)
        told = await scrape(client)
    assert set(told.values) == before | {
        ("ark:http_requests_total", frozenset({("route", "/metrics"), ("method", "GET"), ("status", "200")}))
    }
    assert "first" not in told.text.replace("first_token", "").replace("the first", "").replace("its first", "")
    assert "second" not in told.text.replace("_second", "").replace("seconds", "")


async def test_an_alias_counts_as_its_model() -> None:
    async with running(aliases={"gpt-4o": "echo"}) as client:
        await client.chat("hello", model="gpt-4o")
        told = await scrape(client)
    assert finished(told) == no_reply(stop=1)
    assert "gpt-4o" not in told.text


async def test_two_servers_in_one_process_count_for_themselves() -> None:
    one, other = create_app(make_config()), create_app(make_config())
    async with one.lifespan(), other.lifespan():
        await settled(one)
        await settled(other)
        await Client(one).chat("hello")
        told, untold = await scrape(Client(one)), await scrape(Client(other))
    assert finished(told) == no_reply(stop=1)
    assert finished(untold) == no_reply()


async def test_a_server_below_a_parent_has_the_same_routes() -> None:
    app = create_app(make_config())
    async with app.lifespan():
        await settled(app)
        client = Client(app, root_path="/llm")
        await client.request("POST", "/llm/v1/chat/completions", **chat_request())
        told = Scrape((await client.get("/llm/metrics")).text)
    assert told("http_requests_total", route="/chat/completions", method="POST", status="200") == 1


async def test_models_that_load_or_failed_are_not_ready() -> None:
    broken = ECHO | {"name": "broken", "backend": "nothing:Here"}
    async with running(models=[ECHO, broken]) as client:
        told = await scrape(client)
    assert told("model_ready", task="chat", model_name="echo") == 1
    assert told("model_ready", task="chat", model_name="broken") == 0
    # Of an engine that is not there nothing is known.
    with pytest.raises(KeyError):
        told("num_requests_running", model_name="broken")


async def test_the_text_is_prometheus_own() -> None:
    async with running() as client:
        reply = await client.get("/metrics")
    told = families(reply.text)
    assert reply.headers["content-type"].startswith("text/plain; version=")
    assert {told[f"ark:{name}"].type for name in ("time_to_first_token_seconds", "request_prompt_tokens")} == {
        "histogram"
    }
    assert {told[f"ark:{name}"].type for name in ("request_success", "generation_tokens")} == {"counter"}
    assert not [name for name in told if name.endswith("_created")]
    assert all(family.documentation for family in told.values())
    assert "process_resident_memory_bytes" in told


class Heard(Histogram):
    """A histogram that remembers."""

    def __init__(self) -> None:
        super().__init__(())
        self.values: list[float] = []

    def observe(self, value: float) -> None:
        self.values.append(value)


async def test_tokens_are_timed_for_each_reply() -> None:
    first, further = Heard(), Heard()
    work = JobRecord(
        operation="chat",
        model="m",
        body=msgspec.defstruct("Body", [])(),
        meter={"first_token": first, "next_token": further},
        arrived=0.0,
        finish_reasons=[None] * 2,
    )
    work.batch(TokenBatch(cached_tokens=0))
    assert work.admitted
    assert not work.first
    for index in (0, 1, 0, 1, 1):
        work.batch(TokenBatch(token_ids=(5, 6), index=index))
        await anyio.sleep(0.001)
    work.batch(TokenBatch(finish_reason="stop", index=0))
    # The first token is the request's, and each reply has steps of its own.
    assert len(first.values) == 1
    assert len(further.values) == 3
    assert sum(further.values) < 2 * (work.last - work.first)
    assert first.values[0] == work.first > work.admitted


async def test_the_time_begins_when_the_whole_request_is_there() -> None:
    record = RequestRecord("id", "POST", "http", {})
    await anyio.sleep(0.001)
    record.arrive()
    first, further = Heard(), Heard()
    work = record.begin(
        "chat", "m", msgspec.defstruct("Body", [])(), meters={"m": {"first_token": first, "next_token": further}}
    )
    work.batch(TokenBatch(token_ids=(5,)))
    assert record.begun < record.arrived
    assert first.values == [work.first - record.arrived]


async def test_reasons_that_a_backend_makes_up_end_somewhere() -> None:
    metrics = RequestMetrics()
    for number in range(MAX_REASONS + 50):
        record = RequestRecord("id", "GET", "http", {})
        record.fail(APIError("no", code=f"made_up_{number}"))
        record.end(status=500, disconnected=False, error=None)
        metrics.add(record)
    text = generate_latest(metrics).decode()
    assert text.count("ark:requests_refused_total{") == MAX_REASONS + 1
    assert 'ark:requests_refused_total{reason="other"} 50.0' in text
