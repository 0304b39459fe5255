"""Clients that leave or do not read, and a server that stops, at each stage of a reply."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, backend_of, chat_request, logged, running, until

pytestmark = pytest.mark.anyio

HEADERS = [(b"content-type", b"application/json")]

CHAT = ("POST", "/v1/chat/completions")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def echo(**engine: Any) -> list[dict[str, Any]]:
    return [ECHO | {"engine": engine}]


async def left(client: Client) -> None:
    """The job that ran was cancelled, and no other has run."""
    status = backend_of(client).status()
    assert (status.running, status.jobs_cancelled, status.jobs_finished) == (0, 1, 0)


@pytest.mark.parametrize("send_fails", [False, True])
@pytest.mark.parametrize("fields", [{}, {"stream": True}, {"stream": True, "ark_simplified": True}])
async def test_a_client_that_leaves_during_the_prefill(fields: dict[str, Any], send_fails: bool) -> None:
    async with running(models=echo(prefill_seconds=100.0), server={"keep_alive": 0.05}) as client:
        async with client.open(*CHAT, **chat_request(**fields), send_fails=send_fails) as request:
            await until(lambda: backend_of(client).status().running == 1)
            # Behind a comment: nothing is on its way for a while.
            await request.until(2 if fields else 0)
            sent = len(request.response.pieces)
            request.disconnect()
        await left(client)
    assert len(request.response.pieces) == sent
    assert not request.response.complete


@pytest.mark.parametrize("send_fails", [False, True])
@pytest.mark.parametrize("simplified", [False, True])
async def test_a_client_that_leaves_in_mid_stream(simplified: bool, send_fails: bool) -> None:
    fields = chat_request("hello " * 100, stream=True, ark_simplified=simplified)
    async with running(models=echo(tokens_per_second=1000)) as client:
        async with client.open(*CHAT, **fields, send_fails=send_fails) as request:
            await request.until(4)
            request.disconnect()
        await left(client)
    assert not request.response.complete


async def test_a_client_that_leaves_and_is_only_noticed_by_send() -> None:
    """A server may know it first from the socket it writes to."""
    async with running(models=echo(tokens_per_second=1000), server={"keep_alive": 0.01}) as client:
        async with client.open(*CHAT, **chat_request("hello " * 100, stream=True), send_fails=True) as request:
            request.deaf = True
            await request.until(4)
            request.disconnect()
        await left(client)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_says_nothing_behind_a_whole_reply(stream: bool) -> None:
    """ASGI has it tell of a disconnect; to wait for that would be to wait for ever."""
    async with running() as client, client.open(*CHAT, **chat_request("hello", stream=stream)) as request:
        request.deaf = True
    assert request.response.complete


class Stuck:
    """A connection that takes so many messages, and never comes back from the last one."""

    def __init__(self, count: int, content: str, *, stream: bool) -> None:
        body = json.dumps(chat_request(content, stream=stream)["json"]).encode()
        self._messages = [{"type": "http.request", "body": body}]
        self._count = count
        self.sent: list[Any] = []

    async def ask(self, client: Client) -> None:
        scope = {"type": "http", "method": "POST", "path": "/chat/completions", "headers": HEADERS}
        await client.app(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        return self._messages.pop() if self._messages else await anyio.sleep_forever()

    async def _send(self, message: Any) -> None:
        self.sent.append(message)
        await anyio.lowlevel.checkpoint()
        if len(self.sent) == self._count:
            await anyio.sleep_forever()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_does_not_read_is_given_up(stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A server's `send` waits while the connection takes no more."""
    caplog.set_level(logging.INFO)
    models = echo(tokens_per_second=1000) if stream else echo()
    connection = Stuck(5 if stream else 2, "hello " * 100, stream=stream)
    async with running(models=models, limits={"write_timeout": 0.05}) as client:
        with anyio.fail_after(60):
            await connection.ask(client)
        assert backend_of(client).status().running == client.app.services.limiter.running == 0
    assert len(connection.sent) == (5 if stream else 2)
    (line,) = [line for line in logged(caplog, "ark.app") if "request_id" in line]
    assert (line["message"], line["error"]) == ("client disconnected", "write_timeout")


@pytest.mark.parametrize(("stream", "place"), [(False, 1), (False, 2), (True, 1), (True, 3)])
async def test_a_reply_is_stopped_in_the_middle_of_a_message(
    stream: bool, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    """How much of the message the server has written is not known, so behind a head there may be no other."""
    caplog.set_level(logging.INFO)
    connection = Stuck(place, "hello", stream=stream)
    sent = connection.sent
    async with running() as client:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connection.ask, client)
                await until(lambda: len(sent) == place)
                await client.app.drain(0)
    last = sent.pop()
    if stream and place > 1:
        assert b"draining" in last["body"]
        sent.pop()
    assert len(sent) == place - 1
    assert b"draining" not in b"".join(message.get("body", b"") for message in sent)
    (line,) = [line for line in logged(caplog, "ark.app") if "request_id" in line]
    assert (line["message"], line["status"], line["error"]) == ("request", 200, "draining")


async def test_a_slow_client_has_its_time_for_each_piece_of_a_large_reply() -> None:
    sent: list[bytes] = []
    body = json.dumps(chat_request("x" * 700_000)["json"]).encode()
    messages = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await anyio.sleep_forever()

    async def send(message: Any) -> None:
        await anyio.sleep(len(message.get("body", b"")) / 320_000)
        sent.append(message.get("body", b""))

    async with running(models=[ECHO | {"context_length": 2_000_000}], limits={"write_timeout": 2.0}) as client:
        scope = {"type": "http", "method": "POST", "path": "/chat/completions", "headers": HEADERS}
        await client.app(scope, receive, send)
    assert json.loads(b"".join(sent))["choices"][0]["message"]["content"] == "x" * 700_000
    assert max(map(len, sent)) <= 64 * 1024


async def test_a_client_that_leaves_while_the_model_loads() -> None:
    models = [ECHO | {"backend": "faulty_backend:NeverOpens"}]
    async with running(models=models, settle=False) as client, client.open(*CHAT, **chat_request()) as request:
        await anyio.sleep(0.01)
        request.disconnect()
    assert not request.response.status


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_stops_says_so(stream: bool) -> None:
    """A server stops a request by cancelling it."""
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": json.dumps(chat_request(stream=stream)["json"]).encode()}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else await anyio.sleep_forever()

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        sent.append(message)

    async with running(models=echo(prefill_seconds=100.0)) as client:
        async with anyio.create_task_group() as tasks:
            scope = {"type": "http", "method": "POST", "path": "/chat/completions", "headers": HEADERS}
            tasks.start_soon(client.app, scope, receive, send)
            await until(lambda: backend_of(client).status().running == 1)
            tasks.cancel_scope.cancel()
        assert backend_of(client).status().jobs_cancelled == 1
    assert [message["status"] for message in sent if "status" in message] == [200 if stream else 503]
    assert b'"code":"draining"' in sent[-1]["body"]
    assert not sent[-1]["more_body"]
