from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_client import ECHO, Client, backend_of, chat_request, make_config, running, settled, until
from collector import Collector, collecting, read
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace import TracerProvider

from ark import __version__
from ark.app import create_app
from ark.ops import tracing
from ark.ops.requests import RequestRecord

pytestmark = pytest.mark.anyio

CHAT = ("POST", "/v1/chat/completions")
WORDS: dict[str, Any] = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """One that tries a dead collector again goes on for seconds: not into the next test, whose log it would write."""
    yield
    for thread in threading.enumerate():
        if thread.name.startswith(("ark-traces", "Otel")):
            thread.join(120)
            assert not thread.is_alive(), thread.name


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as one:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.endpoint)
        yield one


def server_span(collector: Collector) -> Span:
    (span,) = [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]
    return span


async def test_a_chat_is_a_trace(collector: Collector) -> None:
    fields = {"stream": True, "max_tokens": 90, "user": "somebody"}
    headers = [("x-request-id", "my-request"), ("traceparent", f"00-{TRACE}-{PARENT}-01")]
    async with running(aliases={"gpt-4o": "echo"}) as client:
        reply = await client.chat("hello", model="gpt-4o", headers=headers, **fields)
    assert collector.paths == ["/v1/traces"]
    assert collector.resource["service.name"] == "ark"
    assert collector.resource["service.version"] == __version__
    span = server_span(collector)
    assert span.name == "POST /chat/completions"
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    found = read(span.attributes)
    first_chunk = found.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < first_chunk * 1e9 < span.end_time_unix_nano - span.start_time_unix_nano
    session = reply.headers["x-ark-session"].split(";")[0]
    assert found == {
        "http.request.method": "POST",
        "http.route": "/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "ark.request_id": "my-request",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ark",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.request.max_tokens": 90,
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": session,
        "gen_ai.response.model": "echo",
        "gen_ai.response.id": reply.chunks[0]["id"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": len("user: hello\nassistant: "),
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 6,
    }
    stages = [collector.named(name) for name in ("queue", "prefill", "decode")]
    assert len(collector.spans) == 4
    assert {(stage.trace_id, stage.parent_span_id) for stage in stages} == {(span.trace_id, span.span_id)}
    times = [time for stage in stages for time in (stage.start_time_unix_nano, stage.end_time_unix_nano)]
    assert times == sorted(times)
    assert span.start_time_unix_nano <= times[0]
    assert times[-1] <= span.end_time_unix_nano


async def test_what_was_said_stays_here(collector: Collector) -> None:
    words = ["question", "marker", "tool_name", "somebody", "secretkey", "unheard"]
    tools = [{"type": "function", "function": {"name": "tool_name", "description": "marker"}}]
    faulty = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}}
    async with running(models=[faulty]) as client:
        await client.chat("question", stop=["marker"], tools=tools, user="somebody")
        await client.chat("question", model="unheard", headers=[("authorization", "Bearer secretkey")])
        await client.get("/v1/unheard?marker=1")
        await client.get("/v1/models/unheard")
        await client.get("/v1/sessions/unheard")
        await client.request("UNHEARD", "/v1/models")
    assert len([span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]) == 6
    for body in collector.bodies:
        assert not [word for word in words if word.encode() in body.lower()]


async def test_numbers_of_a_request(collector: Collector) -> None:
    asked = {"temperature": 0.5, "top_p": 0.25, "top_k": 3, "seed": 7, "frequency_penalty": 1.0, "presence_penalty": -1}
    faulty = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}}
    async with running(models=[faulty]) as client:
        await client.chat("hello", response_format={"type": "json_object"}, max_completion_tokens=9, **asked)
    found = read(server_span(collector).attributes)
    assert {name: found[f"gen_ai.request.{name}"] for name in asked} == asked
    assert found["gen_ai.output.type"] == "json"
    assert found["gen_ai.request.max_tokens"] == 9
    assert "gen_ai.request.stream" not in found


async def test_embeddings(collector: Collector) -> None:
    async with running(models=[WORDS]) as client:
        body = {"model": "words", "input": ["one text", "another"], "encoding_format": "base64"}
        reply = await client.request("POST", "/v1/embeddings", json=body)
    found = read(server_span(collector).attributes)
    assert found["gen_ai.operation.name"] == "embeddings"
    assert found["gen_ai.request.model"] == "words"
    assert found["gen_ai.request.encoding_formats"] == ["base64"]
    assert found["gen_ai.usage.input_tokens"] == reply.json()["usage"]["total_tokens"]
    assert collector.named("engine").parent_span_id == server_span(collector).span_id


async def test_errors(collector: Collector) -> None:
    faulty = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"fault": "engine", "when": "middle"}}
    async with running(models=[faulty]) as client:
        await client.get("/v1/nothing")
        await client.chat("hello", temperature=9)
        await client.chat("hello", stream=True)
    unknown, bad, failed = (span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER)
    assert unknown.name == "GET"
    assert read(unknown.attributes)["error.type"] == "unknown_url"
    assert (read(bad.attributes)["http.response.status_code"], bad.status.code) == (400, 0)
    assert read(failed.attributes)["error.type"] == "engine_failed"
    assert read(failed.attributes)["http.response.status_code"] == 200
    assert failed.status.code == 2
    assert "gen_ai.response.finish_reasons" not in read(failed.attributes)


async def test_a_client_that_left(collector: Collector) -> None:
    app = running(models=[ECHO | {"engine": {"prefill_seconds": 100}}])
    async with app as client, client.open(*CHAT, **chat_request()) as one:
        await until(lambda: backend_of(client).status().running == 1)
        one.disconnect()
    span = server_span(collector)
    assert read(span.attributes)["ark.client_disconnected"] is True
    assert "http.response.status_code" not in read(span.attributes)
    # The stage that was broken off ends with the request.
    assert collector.named("prefill").end_time_unix_nano == span.end_time_unix_nano
    assert {one.name for one in collector.spans} == {"POST /chat/completions", "queue", "prefill"}


async def test_what_watches_the_server_is_not_traced(collector: Collector) -> None:
    async with running() as client:
        for path in ("/health", "/ready", "/metrics", "/v1/models"):
            await client.get(path)
    assert [span.name for span in collector.spans] == ["GET /models"]


@pytest.mark.parametrize("flags", ["00", "01"])
async def test_the_client_says_whether_its_trace_is_kept(collector: Collector, flags: str) -> None:
    async with running() as client:
        await client.chat("hello", headers=[("traceparent", f"00-{TRACE}-{PARENT}-{flags}")])
    assert len(collector.spans) == (4 if flags == "01" else 0)


@pytest.mark.parametrize("value", ["", "rubbish", "00-0-0-01", "é" * 200, f"00-{'0' * 32}-{PARENT}-01"])
async def test_a_broken_traceparent_begins_a_trace(collector: Collector, value: str) -> None:
    async with running() as client:
        assert (await client.chat("hello", headers=[("traceparent", value)])).status == 200
    assert server_span(collector).parent_span_id == b""


async def test_the_environment_sets_the_sampler_and_the_names(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-models")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    async with running() as client:
        await client.chat("hello")
    assert collector.resource["service.name"] == "my-models"
    assert collector.resource["deployment.environment.name"] == "test"
    collector.bodies.clear()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with running() as client:
        await client.chat("hello")
    assert not collector.bodies


async def test_below_a_traced_application(collector: Collector) -> None:
    parent = TracerProvider(shutdown_on_exit=False).get_tracer("parent")
    app = create_app(make_config())
    seen: list[int] = []

    async def traced(scope: Any, receive: Any, send: Any) -> None:
        with parent.start_as_current_span("outer") as span:
            seen.append(span.get_span_context().span_id)
            await app(scope, receive, send)

    async with app.lifespan():
        await settled(app)
        # The application's own span counts, and not that of its client.
        await Client(traced).chat("hello", headers=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    assert int.from_bytes(server_span(collector).parent_span_id) == seen[0]


@pytest.mark.parametrize("status", [400, 503])
async def test_a_collector_that_refuses_harms_nobody(
    collector: Collector, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seconds for which it is tried again.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    collector.status = status
    async with running() as client:
        assert (await client.chat("hello")).status == 200


async def test_a_collector_that_is_not_there_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with collecting() as gone:
        endpoint = gone.endpoint
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    async with running() as client:
        assert (await client.chat("hello")).status == 200


async def test_a_collector_that_hangs_holds_nobody(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.1)
    collector.gate.clear()
    # A request's span leaves at once, so that the exporter hangs while others are served.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    async with running() as client:
        for _ in range(3):
            assert (await client.chat("hello")).status == 200
    assert not collector.bodies


async def test_a_trace_that_cannot_be_made_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(TracerProvider):
        def get_tracer(self, *_: Any, **__: Any) -> Any:
            return None

    tracer = tracing.Tracer(Broken(shutdown_on_exit=False))
    record = RequestRecord("id", "GET", "http", {})
    record.end(status=200, disconnected=False, error=None)
    for _ in range(3):
        tracer.add(record)
    assert [line.message for line in caplog.records if line.name == "ark.tracing"] == [
        "a trace could not be made; further ones that fail are passed over"
    ]


async def test_variables_that_cannot_be_read_cost_the_traces_only(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    async with running() as client:
        assert (await client.chat("hello")).status == 200
    assert "no traces are sent" in caplog.text
    assert not collector.bodies


async def test_the_log_names_the_trace(collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ark")
    async with running() as client:
        await client.chat("hello", headers=[("traceparent", f"00-{TRACE}-{PARENT}-01")])
    (line,) = [record for record in caplog.records if record.message == "request"]
    assert line.__dict__["fields"]["trace_id"] == TRACE


@pytest.mark.parametrize(
    ("environ", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
    ],
)
def test_the_environment_asks(environ: dict[str, str], asked: bool, caplog: pytest.LogCaptureFixture) -> None:
    assert tracing.wanted(environ) is asked
    assert "ark.tracing" not in {line.name for line in caplog.records}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "x"),
    ],
)
def test_what_ark_cannot_do_is_said(name: str, value: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not tracing.wanted({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", name: value})
    assert value in caplog.text


async def test_without_the_extra_it_serves(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    async with running() as client:
        assert (await client.chat("hello")).status == 200
    assert "pip install 'ark-server[otel]'" in caplog.text
    assert not collector.bodies


def test_nothing_is_imported_that_nobody_asked_for() -> None:
    program = """
import anyio, sys
from asgi_client import running

async def main():
    async with running() as client:
        assert (await client.chat()).status == 200

anyio.run(main)
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    path = [entry for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{program}"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": ""},
    )
    assert done.stdout == "[]\n"
