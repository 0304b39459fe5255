"""A model that is downloaded while the server runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, running
from asgi_client import until as eventually
from fetching_backend import FetchingBackend

pytestmark = pytest.mark.anyio

FETCHED: dict[str, Any] = {"name": "far", "backend": "fetching_backend:FetchingBackend"}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    FetchingBackend.broken_off.clear()
    yield
    while not FetchingBackend.received.empty():
        FetchingBackend.received.get()


async def until(condition: Callable[[dict[str, Any]], bool], client: Client, name: str = "far") -> dict[str, Any]:
    """The model's details once they are so."""
    while True:
        details: dict[str, Any] = (await client.get(f"/v1/models/{name}")).json()["ark"]
        if condition(details):
            return details
        await anyio.sleep(0.01)


async def test_the_progress_is_told_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ark")
    async with running(models=[FETCHED, ECHO], server={"load_wait": 0}, settle=False) as client:
        FetchingBackend.received.put(4)
        # Nobody waits for another's download.
        await until(lambda found: found["state"] == "ready", client, "echo")
        details = await until(lambda found: (found["download"] or {}).get("received") == 4_000_000, client)
        assert (details["state"], details["download"]["total"]) == ("loading", 10_000_000)
        ready = await client.get("/ready")
        assert (ready.status, ready.error["code"]) == (503, "model_loading")
        assert "far is loading, 4 of 10 MB downloaded" in ready.error["message"]
        refused = await client.chat("Hello", model="far")
        assert (refused.status, refused.error["code"]) == (503, "model_loading")
        assert refused.error["message"] == "The model 'far' is still loading, 4 of 10 MB downloaded."
        FetchingBackend.received.put(10)
        await until(lambda found: found["state"] == "ready", client)
        assert (await client.get("/ready")).status == 200
        answered = await client.chat("Hello", model="far")
        assert answered.json()["choices"][0]["message"]["content"] == "Hello"
        details = await until(lambda found: True, client)
        assert details["download"] is None
    assert [m for m in caplog.messages if m.endswith("downloaded")] == [
        "model far: 0 of 10 MB downloaded",
        "model far: 4 of 10 MB downloaded",
    ]


async def test_a_download_that_fails_is_the_models_failure_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with running(models=[FETCHED, ECHO], settle=False) as client:
        FetchingBackend.received.put(-1)
        await until(lambda found: found["state"] == "failed", client)
        await until(lambda found: found["state"] == "ready", client, "echo")
        ready = await client.get("/ready")
        assert (ready.status, ready.error["code"]) == (503, "model_failed")
    (message,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert message == ("model far cannot be opened: small.model is not on this machine and cannot be downloaded")


async def test_a_server_that_stops_breaks_the_download_off() -> None:
    async with running(models=[FETCHED], settle=False) as client:
        await until(lambda found: found["download"] is not None, client)
    # Its thread is left behind, and told at its next report.
    await eventually(lambda: bool(FetchingBackend.broken_off))
    assert FetchingBackend.broken_off == ["ConfigError"]
