"""Routes, keys at the door, mounting, lifespan."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, backend_of, chat_request, is_request_id, make_config, running, settled, until
from faulty_backend import Faulty

from ark.app import create_app

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "path", ["/v1/models", "/models", "/v1/models/", "/models/", "/health", "/v1/health", "/ready"]
)
async def test_a_path_works_with_and_without_the_prefix_and_a_slash(path: str) -> None:
    async with running() as client:
        reply = await client.get(path)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/chat/completions/"])
async def test_chat_works_with_and_without_the_prefix_and_a_slash(path: str) -> None:
    async with running() as client:
        reply = await client.request("POST", path, **chat_request("hello"))
    assert reply.json()["choices"][0]["message"]["content"] == "hello"


@pytest.mark.parametrize("path", ["/v2", "/v2/models", "/v1/v1/models", "//models", "/model", "/ark/models"])
async def test_an_unknown_path_is_404(path: str) -> None:
    async with running() as client:
        reply = await client.get(path)
    assert reply.status == 404
    assert reply.error["type"] == "invalid_request_error"
    assert reply.error["code"] == "unknown_url"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/embeddings", "POST"),
        ("HEAD", "/v1/embeddings", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST, GET, HEAD"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("DELETE", "/v1/models/echo", "GET, HEAD"),
        ("PUT", "/health", "GET, HEAD"),
        ("get", "/health", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_405_with_allow(method: str, path: str, allow: str) -> None:
    async with running() as client:
        reply = await client.request(method, path)
    assert reply.status == 405
    assert reply.headers["allow"] == allow
    if method != "HEAD":
        assert reply.error["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/echo", "/health", "/v1/models/nothing", "/nothing"])
async def test_head_is_get_without_a_body(path: str) -> None:
    async with running() as client:
        whole = await client.get(path)
        head = await client.request("HEAD", path)
    assert head.status == whole.status
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize("path", ["/v1/models", "/nothing", "/v1/models/nothing"])
async def test_every_reply_has_a_request_id(path: str) -> None:
    async with running() as client:
        made = [(await client.get(path)).headers["x-request-id"] for _ in range(2)]
        given = await client.get(path, headers=[("x-request-id", "trace-1.2:3_4")])
    assert all(map(is_request_id, made))
    assert made[0] != made[1]
    assert given.headers["x-request-id"] == "trace-1.2:3_4"


@pytest.mark.parametrize("sent", ["", " ", "a b", "a" * 129, "é", "a,b", "<script>", "a\tb"])
async def test_a_request_id_that_could_do_harm_is_replaced(sent: str) -> None:
    async with running() as client:
        reply = await client.get("/health", headers=[("x-request-id", sent)])
    assert is_request_id(reply.headers["x-request-id"])


@pytest.mark.parametrize("root", ["/ark", "/ark/", "/a/b", "/v1"])
@pytest.mark.parametrize("stripped", [True, False])
@pytest.mark.parametrize("path", ["/v1/models/echo", "/models/echo", "/health"])
async def test_a_parent_may_leave_its_part_of_the_path_or_cut_it_off(root: str, stripped: bool, path: str) -> None:
    async with running() as client:
        mounted = Client(client.app, root_path=root)
        reply = await mounted.get(path if stripped else root.rstrip("/") + path)
    assert reply.status == 200


async def test_a_root_path_is_a_whole_segment() -> None:
    async with running() as client:
        mounted = Client(client.app, root_path="/ark")
        reply = await mounted.get("/arkmodels")
        at_root = await mounted.get("/ark")
    assert reply.status == 404
    assert (at_root.status, at_root.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/", ""])
async def test_the_page_stands_at_the_root_unless_it_is_switched_off(path: str) -> None:
    async with running() as client:
        shown = await client.get(path)
        posted = await client.request("POST", path)
    async with running(server={"page": False}) as client:
        hidden = await client.get(path)
    assert (shown.status, shown.headers["x-content-type-options"]) == (200, "nosniff")
    assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD")
    assert hidden.json() == {"object": "api", "openapi": "/v1/openapi.json", "models": "/v1/models"}


@pytest.mark.parametrize("path", ["/v1", "/v1/"])
async def test_the_prefix_alone_says_where_to_go_on(path: str) -> None:
    async with running(keys=[{"name": "a", "sha256": "0" * 64}]) as client:
        mounted = Client(client.app, root_path="/ark")
        found = (await mounted.get(f"/ark{path}")).json()
        described = await mounted.get(found["openapi"])
        heads = [await client.request("HEAD", one) for one in ("/", path)]
    assert described.json()["info"]["title"] == "ARK"
    assert found["models"] == "/ark/v1/models"
    assert [head.status for head in heads] == [200, 200]


async def test_nothing_runs_before_the_lifespan() -> None:
    reply = await Client(create_app(make_config())).get("/v1/models")
    assert reply.status == 503
    assert reply.error["code"] == "not_started"


class Lifespan:
    """The server's side of ASGI's lifespan."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._messages = [{"type": "lifespan.startup"}]
        self._shutdown = anyio.Event()
        self.sent: list[MutableMapping[str, Any]] = []
        self.started = anyio.Event()

    async def run(self) -> None:
        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._receive, self._send)
        self.started.set()

    def shut_down(self) -> None:
        self._shutdown.set()

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self._shutdown.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)
        self.started.set()


async def test_the_lifespan_protocol() -> None:
    app = create_app(make_config())
    lifespan = Lifespan(app)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lifespan.run)
        await lifespan.started.wait()
        await settled(app)
        assert (await Client(app).get("/ready")).status == 200
        lifespan.shut_down()
    assert [message["type"] for message in lifespan.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert app.services is None


async def test_a_bad_configuration_is_a_failed_startup_that_says_why(tmp_path: Path) -> None:
    path = tmp_path / "ark.toml"
    path.write_text("[server]\nkeep_alive = 'long'\n")
    lifespan = Lifespan(create_app(path))
    await lifespan.run()
    (message,) = lifespan.sent
    assert message["type"] == "lifespan.startup.failed"
    assert str(path) in message["message"]
    assert "server.keep_alive" in message["message"]


async def test_the_sessions_file_may_be_named_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    async with running(sessions={"path": "~/sessions.db"}):
        assert (tmp_path / "sessions.db").exists()


async def test_any_other_failure_at_startup_is_said_too() -> None:
    """Servers pass over an exception at startup and then serve an application that does not work."""
    app = create_app(make_config())
    async with app.lifespan():
        lifespan = Lifespan(app)
        await lifespan.run()
    (message,) = lifespan.sent
    assert message["type"] == "lifespan.startup.failed"
    assert "running already" in message["message"]


async def test_a_parent_can_start_it_twice_after_another() -> None:
    app = create_app(make_config())
    for _ in range(2):
        async with app.lifespan():
            await settled(app)
            assert (await Client(app).get("/v1/models")).status == 200
        assert (await Client(app).get("/v1/models")).status == 503


async def test_a_parents_own_exception_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="its own"):
        async with create_app(make_config()).lifespan():
            raise KeyError("its own")


async def test_whoever_runs_the_server_is_told_of_each_model_that_was_opened_or_could_not_be() -> None:
    app = create_app(
        make_config(models=[ECHO, {"name": "bad", "backend": "echo_backend:Nobody"}, ECHO | {"name": "two"}])
    )
    states = []

    def after_opening() -> None:
        assert app.services is not None
        states.append([served.state for served in app.services.registry.models])

    app.after_opening = after_opening
    async with app.lifespan():
        await settled(app)
    # What can be opened is found out while others load.
    assert [(first, third) for first, _, third in states] == [
        ("ready", "loading"),
        ("ready", "loading"),
        ("ready",) * 2,
    ]
    assert states[-1][1] == "failed"


async def test_a_model_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    models = [{"name": "bad", "backend": "faulty_backend:BadAtClosing"}, ECHO | {"backend": "faulty_backend:Faulty"}]
    async with running(models=models) as client:
        backends = [served.backend for served in client.app.services.registry.models]
    assert all(backend.closed for backend in backends)


async def test_a_model_that_opens_and_cannot_be_served_is_closed_at_once() -> None:
    """Nobody else knows it, and what it holds may be all of a GPU."""
    broken = {"name": "broken", "backend": "faulty_backend:Faulty", "engine": {"unable": True}}
    async with running(models=[broken, ECHO]) as client:
        assert Faulty.latest.closed
        refused = await client.chat(model="broken")
        assert (refused.status, refused.error["code"]) == (503, "model_failed")
        assert (await client.chat()).status == 200


async def test_while_it_drains_only_health_is_served() -> None:
    async with running() as client:
        client.app.services.draining = True
        refused = [await client.chat(), await client.get("/v1/models"), await client.get("/ready")]
        health = await client.get("/health")
    assert [reply.status for reply in refused] == [503, 503, 503]
    assert {reply.error["code"] for reply in refused} == {"draining"}
    assert all("retry-after" in reply.headers for reply in refused)
    assert health.status == 200


@pytest.mark.parametrize(("http_version", "close"), [("1.1", "close"), ("2", None)])
async def test_draining_lets_replies_end_and_refuses_new_ones(http_version: str, close: str | None) -> None:
    async with running(models=[ECHO | {"engine": {"tokens_per_second": 100}}]) as client:
        modern = Client(client.app, http_version=http_version)
        async with client.open("POST", "/v1/chat/completions", **chat_request("hello", stream=True)) as request:
            await request.until(2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.app.drain)
                await until(lambda: client.app.services.draining)
                refused = await modern.chat()
                assert not request.done.is_set()
        assert request.done.is_set()
    assert request.response.events[-1].data == "[DONE]"
    assert refused.status == 503
    assert refused.headers.get("connection") == close


@pytest.mark.parametrize("stream", [False, True])
async def test_draining_breaks_off_what_takes_too_long(stream: bool) -> None:
    app = running(models=[ECHO | {"engine": {"prefill_seconds": 30.0}}], server={"drain_seconds": 0.05})
    async with app as client:
        async with client.open("POST", "/v1/chat/completions", **chat_request(stream=stream)) as request:
            await until(lambda: backend_of(client).status().running == 1)
            with anyio.fail_after(60):
                await client.app.drain()
        assert backend_of(client).status().running == 0
    reply = request.response
    error = reply.chunks[-1]["error"] if stream else reply.error
    assert error["code"] == "draining"
    assert reply.status == (200 if stream else 503)
    assert reply.complete


async def test_whoever_is_in_a_hurry_need_not_wait_for_the_rest() -> None:
    app = running(models=[ECHO | {"engine": {"prefill_seconds": 30.0}}])
    async with app as client, client.open("POST", "/v1/chat/completions", **chat_request()) as request:
        await until(lambda: backend_of(client).status().running == 1)
        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.app.drain)
                await until(lambda: client.app.services.draining)
                await client.app.drain(0)
    assert request.response.status == 503


async def test_there_is_nothing_to_drain() -> None:
    app = create_app(make_config())
    await app.drain()
    async with app.lifespan():
        await app.drain()
        assert (await Client(app).get("/ready")).status == 503


async def test_a_websocket_is_closed() -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async with running() as client:
        await client.app({"type": "websocket", "path": "/v1/models", "headers": []}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(RuntimeError, match="telepathy"):
        await create_app(make_config())({"type": "telepathy"}, None, None)  # type: ignore[arg-type]
