"""One request and its reply: refusals, the funnel for errors, comments in a stream, the log."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, chat_request, logged, running
from faulty_backend import SECRET, Panic

from ark.http import exchange
from ark.http.exchange import encode_headers, is_failure

pytestmark = pytest.mark.anyio

HEADERS = [(b"content-type", b"application/json")]

FAULTY = ECHO | {"backend": "faulty_backend:Faulty"}
CHAT = ("POST", "/v1/chat/completions")


def echo(**engine: Any) -> list[dict[str, Any]]:
    return [ECHO | {"engine": engine}]


def faulty(**engine: Any) -> list[dict[str, Any]]:
    return [FAULTY | {"engine": engine}]


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "json", "a/jsonx"]
)
async def test_a_wrong_content_type_is_415(kind: str) -> None:
    async with running() as client:
        reply = await client.chat(headers=[("content-type", kind)])
    assert reply.status == 415
    assert reply.error["code"] == "unsupported_media_type"
    assert kind.partition(";")[0] in reply.error["message"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/ld+json"])
async def test_json_by_any_of_its_names(kind: str) -> None:
    async with running() as client:
        reply = await client.chat(headers=[("content-type", kind)])
    assert reply.status == 200


async def test_a_body_over_the_limit_is_413_and_one_at_the_limit_is_read() -> None:
    body = json.dumps(chat_request("hello")["json"]).encode()
    async with running(limits={"body_bytes": len(body)}) as client:
        whole = await client.request(*CHAT, body=body, headers=[("content-length", str(len(body)))])
        declared = await client.request(*CHAT, body=body + b" ", headers=[("content-length", str(len(body) + 1))])
        counted = await client.request(*CHAT, pieces=[body, b" "], headers=[("transfer-encoding", "chunked")])
        lying = await client.request(*CHAT, pieces=[body, b" "], headers=[("content-length", "5")])
    assert whole.status == 200
    for reply in (declared, counted, lying):
        assert reply.status == 413
        assert reply.error["code"] == "request_too_large"
        assert str(len(body)) in reply.error["message"]


async def test_a_slow_body_is_408_and_the_connection_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LINGER_SILENCE", 0.01)
    async with running(limits={"body_timeout": 0.03}) as client:
        reply = await client.request(*CHAT, body=b'{"model"', ends=False)
    assert reply.status == 408
    assert reply.error["code"] == "request_timeout"
    assert reply.headers["connection"] == "close"


async def test_a_trickling_body_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LINGER_SILENCE", 0.01)
    async with running(limits={"body_total_timeout": 0.05}) as client:
        reply = await client.request(*CHAT, pieces=[b" "] * 10, ends=False)
    assert reply.status == 408


async def test_a_client_that_leaves_in_its_body_gets_nothing() -> None:
    async with running() as client, client.open(*CHAT, body=b'{"model"', ends=False) as request:
        await anyio.sleep(0.01)
        request.disconnect()
    assert not request.response.status


async def test_a_small_body_is_read_though_refused_and_the_connection_kept() -> None:
    async with running() as client:
        async with client.open("POST", "/nothing", pieces=[b"a", b"b"], headers=[("content-length", "2")]) as request:
            pass
        without = await client.get("/nothing")
    assert request.received == 2
    assert "connection" not in request.response.headers
    assert "connection" not in without.headers


@pytest.mark.parametrize("headers", [[("content-length", str(2**20))], [("transfer-encoding", "chunked")]])
async def test_a_large_body_is_passed_over_behind_the_reply(headers: list[tuple[str, str]]) -> None:
    """A connection that is closed under unread bytes is reset, and the client loses the reply."""
    body = {"pieces": [b"a", b"b"], "headers": headers}
    async with running() as client, client.open("POST", "/nothing", **body) as request:
        await request.until(1)
        assert request.received == 0
        assert not request.response.complete
    assert request.received == 2
    assert request.response.complete
    assert request.response.headers["connection"] == "close"


async def test_http_2_knows_no_connection_header() -> None:
    async with running(limits={"body_bytes": 10}) as client:
        modern = Client(client.app, http_version="2")
        reply = await modern.request(*CHAT, body=b"x" * 100, headers=[("content-length", "1000000")])
    assert reply.status == 413
    assert "connection" not in reply.headers


async def test_a_client_that_leaves_while_its_refused_body_is_passed_over() -> None:
    headers = [("transfer-encoding", "chunked")]
    async with running() as client, client.open("POST", "/nothing", body=b"a", ends=False, headers=headers) as request:
        await request.until(1)
        request.disconnect()
    assert request.response.status == 404


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_client_that_left_before_it_was_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running() as client, client.open("POST", "/nothing", body=b"a", send_fails=True) as request:
        # Only `send` tells of it.
        request.deaf = True
        request.disconnect()
    assert not request.response.status
    assert [line["message"] for line in logged(caplog, "ark.app") if "request_id" in line] == ["client disconnected"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("queue_full", 429, "rate_limit_exceeded"),
        ("engine", 503, "engine_failed"),
        *((fault, 500, None) for fault in ("bug", "panic", "exit")),
    ],
)
async def test_an_error_at_admission_is_an_ordinary_reply(
    fault: str, status: int, code: str | None, stream: bool, simplified: bool
) -> None:
    async with running(models=faulty(fault=fault)) as client:
        reply = await client.chat(stream=stream, ark_simplified=simplified)
    assert reply.status == status
    assert reply.error["code"] == code
    assert SECRET not in reply.text
    if status == 429:
        assert reply.headers["retry-after"] == "3"
        assert reply.headers["retry-after-ms"] == "2500"
    if status == 503:
        assert reply.headers["retry-after"] == "5"
    if status == 500:
        assert reply.headers["x-request-id"] in reply.error["message"]


@pytest.mark.parametrize(
    ("fault", "code"), [("engine", "engine_failed"), *((one, None) for one in ("bug", "panic", "exit", "silent_end"))]
)
async def test_an_error_in_a_stream_is_its_last_event(fault: str, code: str | None) -> None:
    async with running(models=faulty(fault=fault, when="middle")) as client:
        reply = await client.chat(stream=True)
    *chunks, last = reply.chunks
    assert reply.status == 200
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "hel"
    assert last["error"]["code"] == code
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert "[DONE]" not in reply.text
    assert SECRET not in reply.text


@pytest.mark.parametrize("fault", ["engine", "bug"])
async def test_an_error_in_a_simplified_stream_has_an_event_name(fault: str) -> None:
    async with running(models=faulty(fault=fault, when="middle")) as client:
        reply = await client.chat(stream=True, ark_simplified=True)
    *texts, last = reply.events
    assert [(event.type, event.data) for event in texts] == [("message", "h"), ("message", "e"), ("message", "l")]
    assert last.type == "error"
    assert set(json.loads(last.data)["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("fault", ["bug", "panic", "exit", "silent_end"])
async def test_an_error_in_the_middle_of_a_whole_reply(fault: str) -> None:
    async with running(models=faulty(fault=fault, when="middle")) as client:
        reply = await client.chat()
    assert reply.status == 500
    assert reply.error["type"] == "server_error"


async def test_a_stream_that_takes_long_is_kept_alive_by_comments() -> None:
    async with running(models=echo(prefill_seconds=0.4), server={"keep_alive": 0.02}) as client:
        reply = await client.chat("hi", stream=True)
    assert reply.text.count(": keep-alive\n\n") >= 2
    # The role comes when the engine takes the job, the text after the prompt has been read.
    assert [chunk["choices"][0]["delta"].get("content") for chunk in reply.chunks] == ["", "h", "i", None]


async def test_a_comment_comes_though_an_event_was_being_written_when_it_was_due() -> None:
    body = json.dumps(chat_request("hi", stream=True)["json"]).encode()
    messages = [{"type": "http.request", "body": body}]
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await anyio.sleep_forever()

    async def send(message: Any) -> None:
        await anyio.sleep(0.1 if b"assistant" in message.get("body", b"") else 0)
        sent.append(message.get("body", b""))

    async with running(models=echo(prefill_seconds=0.4), server={"keep_alive": 0.02}) as client:
        await client.app(
            {"type": "http", "method": "POST", "path": "/chat/completions", "headers": HEADERS}, receive, send
        )
    assert sent.count(b": keep-alive\n\n") >= 2


async def test_a_comment_starts_the_reply_when_admission_takes_long() -> None:
    app = running(models=faulty(fault="hang"), server={"keep_alive": 0.02})
    async with app as client, client.open(*CHAT, **chat_request(stream=True)) as request:
        await request.until(2)
        assert request.response.status == 200
        request.disconnect()
    assert request.response.body.startswith(b": keep-alive\n\n: keep-alive\n\n")
    # A client that is told nothing of its session here would begin another one with its next request.
    assert request.response.headers["set-cookie"].startswith("ark_session_id=")


async def test_an_error_behind_a_comment_is_an_event() -> None:
    models = [FAULTY | {"engine": {"fault": "engine", "when": "prefill"}}]
    async with running(models=models, server={"keep_alive": 0.001}) as client:
        reply = await client.chat(stream=True)
    assert reply.status == 200
    assert reply.chunks[-1]["error"]["code"] == "engine_failed"


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/v1/models", 200, None),
        ("GET", "/v1/models/nothing", 404, "model_not_found"),
        ("GET", "/nothing", 404, "unknown_url"),
        ("POST", "/v1/chat/completions", 400, "invalid_json"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_every_request_is_logged(
    caplog: pytest.LogCaptureFixture, method: str, path: str, status: int, error: str | None
) -> None:
    caplog.set_level(logging.INFO)
    async with running() as client:
        caplog.clear()
        reply = await client.request(method, path)
    (line,) = logged(caplog, "ark.app")
    assert line.pop("seconds") >= 0
    expected = {
        "message": "request",
        "request_id": reply.headers["x-request-id"],
        "request": f"{method} {path}",
        "status": status,
    }
    assert line == (expected if error is None else expected | {"error": error})


async def test_a_client_that_left_is_logged_as_such(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running(models=echo(prefill_seconds=100.0)) as client:
        async with client.open(*CHAT, **chat_request(stream=True)) as request:
            await request.until(1)
            request.disconnect()
        whole = await client.chat(max_tokens=1, headers=[("x-request-id", "refused")], temperature=5)
    messages = {line["request_id"]: line["message"] for line in logged(caplog, "ark.app") if "request_id" in line}
    assert messages.pop(whole.headers["x-request-id"]) == "request"
    assert list(messages.values()) == ["client disconnected"]


@pytest.mark.parametrize("failure", [Panic(SECRET), SystemExit(SECRET), BaseExceptionGroup(SECRET, [Panic()])])
async def test_no_failure_before_the_endpoint_ends_the_server(failure: BaseException) -> None:
    async with running() as client:
        reply = await Client(FailsOnce(client.app, failure)).chat()
    assert reply.status == 500
    assert SECRET not in reply.text


async def test_cancellation_and_the_end_of_the_program_are_no_failures() -> None:
    cancelled = anyio.get_cancelled_exc_class()
    kinds = [KeyboardInterrupt(), GeneratorExit(), *([cancelled()] if cancelled.__name__ == "CancelledError" else [])]
    for error in kinds:
        assert not is_failure(error)
        assert not is_failure(BaseExceptionGroup("several", [ValueError(), error]))


class FailsOnce:
    """A server whose first `receive` raises."""

    def __init__(self, app: Any, failure: BaseException) -> None:
        self._app = app
        self._failures = [failure]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def fails_once() -> Any:
            if self._failures:
                raise self._failures.pop()
            return await receive()

        await self._app(scope, fails_once, send)


@pytest.mark.parametrize("fault", ["bug", "panic"])
async def test_an_unexpected_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture, fault: str) -> None:
    async with running(models=faulty(fault=fault)) as client:
        reply = await client.chat()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.fields["request_id"] == reply.headers["x-request-id"]
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"temperature": 5}, {"messages": [{"role": "TOP SECRET"}]}])
async def test_no_log_holds_text_of_a_request(caplog: pytest.LogCaptureFixture, fields: dict[str, Any]) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(models=faulty(fault="bug", when="middle")) as client:
        await client.chat("TOP SECRET", **fields)
    for record in caplog.records:
        assert "TOP SECRET" not in logging.Formatter().format(record) + repr(getattr(record, "fields", ""))


async def test_a_header_of_a_reply_holds_no_line_break() -> None:
    encoded = encode_headers([("X-Name", "a\r\nset-cookie: x"), ("x-b", "é☃"), ("x-c", "plain, value")])
    assert encoded == [
        (b"x-name", b"a%0D%0Aset-cookie: x"),
        (b"x-b", b"%C3%A9%E2%98%83"),
        (b"x-c", b"plain, value"),
    ]


async def test_one_error_has_one_start() -> None:
    """A reply that cannot be sent whole is not followed by another one."""
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False} if not sent else await anyio.sleep_forever()

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if message["type"] == "http.response.body":
            raise ZeroDivisionError("a server's own error")

    async with running() as client:
        scope = {"type": "http", "method": "GET", "path": "/health", "headers": []}
        with pytest.raises(ExceptionGroup):
            await client.app(scope, receive, send)
    assert sent == ["http.response.start", "http.response.body"]
