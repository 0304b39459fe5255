"""GET /health and /ready, and what a request gets from a model that is not ready."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from asgi_client import ECHO, backend_of, logged, running
from faulty_backend import SECRET

pytestmark = pytest.mark.anyio


def model(kind: str, **more: Any) -> list[dict[str, Any]]:
    return [ECHO | {"backend": f"faulty_backend:{kind}", **more}]


async def test_ready_once_every_model_is_open() -> None:
    async with running(models=[ECHO, ECHO | {"name": "second"}]) as client:
        reply = await client.get("/ready")
    assert reply.status == 200
    assert reply.json() == {"status": "ready", "models": {"echo": "ready", "second": "ready"}}


async def test_not_ready_while_a_model_loads() -> None:
    async with running(models=[ECHO, *model("NeverOpens", name="slow")], settle=False) as client:
        reply = await client.get("/ready")
        health = await client.get("/health")
    assert reply.status == 503
    assert reply.error["code"] == "model_loading"
    assert "slow is loading" in reply.error["message"]
    assert reply.headers["retry-after"] == "5"
    assert reply.headers["retry-after-ms"] == "5000"
    assert (health.status, health.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(("level", "lines"), [("info", ["GET /v1/models"]), ("debug", None)])
async def test_probes_are_logged_for_debugging_alone(
    level: str, lines: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    paths = ["/ready", "/v1/health", "/v1/models"]
    async with running(models=[ECHO], server={"log_level": level}) as client:
        for path in paths:
            await client.get(path)
    asked = [line["request"] for line in logged(caplog, "ark.app") if line["message"] == "request"]
    assert asked == (lines or [f"GET {path}" for path in paths])


async def test_not_ready_when_a_model_failed() -> None:
    async with running(models=[*model("BadAtOpening", name="bad"), ECHO]) as client:
        reply = await client.get("/ready")
        health = await client.get("/health")
        other = await client.chat()
    assert reply.status == 503
    assert reply.error["code"] == "model_failed"
    assert "bad is failed" in reply.error["message"]
    assert SECRET not in reply.text
    assert health.status == 200
    assert other.status == 200


async def test_not_ready_when_an_engine_died() -> None:
    async with running(models=model("Faulty")) as client:
        assert (await client.get("/ready")).status == 200
        backend_of(client).alive = False
        reply = await client.get("/ready")
        chat = await client.chat()
    assert (reply.status, reply.error["code"]) == (503, "model_failed")
    assert (chat.status, chat.error["code"]) == (503, "model_failed")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_waits_for_a_model_that_loads(stream: bool) -> None:
    async with running(models=model("SlowToOpen"), settle=False) as client:
        reply = await client.chat(stream=stream)
    assert reply.status == 200


@pytest.mark.parametrize("wait", [0, 0.02])
async def test_a_request_does_not_wait_for_ever(wait: float) -> None:
    async with running(models=model("NeverOpens"), server={"load_wait": wait}, settle=False) as client:
        begun = anyio.current_time()
        reply = await client.chat()
    assert anyio.current_time() - begun < 5
    assert reply.status == 503
    assert reply.error["code"] == "model_loading"
    assert reply.headers["retry-after"] == "5"
    assert reply.headers["retry-after-ms"] == "5000"


@pytest.mark.parametrize(
    "kind", ["faulty_backend:BadAtOpening", "faulty_backend:Nothing", "no_such_module:Backend", "no_such_entry_point"]
)
async def test_a_model_that_cannot_be_opened_fails_its_requests(kind: str) -> None:
    async with running(models=[ECHO | {"backend": kind}]) as client:
        reply = await client.chat()
    assert reply.status == 503
    assert reply.error["code"] == "model_failed"
    assert "no_such" not in reply.text
    assert SECRET not in reply.text


async def test_a_bad_engine_option_fails_the_model() -> None:
    async with running(models=[ECHO | {"engine": {"speed": 5}}]) as client:
        reply = await client.chat()
    assert (reply.status, reply.error["code"]) == (503, "model_failed")
