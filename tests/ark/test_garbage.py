"""What a request leaves behind: nothing that only the collector of garbage could find, bodies of megabytes with it."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_client import ECHO, Client, running

pytestmark = pytest.mark.anyio

MODELS = [ECHO, {"name": "wild", "backend": "faulty_backend:Faulty", "engine": {"fault": "bug", "when": "middle"}}]


@pytest.fixture
def kept() -> Iterator[list[Any]]:
    """What the collector finds between here and `found`."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    yield gc.garbage
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def found(kept: list[Any]) -> set[str]:
    """ARK's own frames and objects that nothing leads to any more."""
    gc.collect()
    frames = {one.f_code.co_qualname for one in kept if inspect.isframe(one) and "/ark/" in one.f_code.co_filename}
    return frames | {type(one).__qualname__ for one in kept if type(one).__module__.partition(".")[0] == "ark"}


CHATS: dict[str, dict[str, Any]] = {
    "whole": {},
    "stream": {"stream": True},
    "simplified": {"stream": True, "ark_simplified": True},
    "session": {"ark_stateful": True},
    "bad value": {"temperature": 9},
    "bad type": {"stop": 3},
    "unknown model": {"model": "nobody"},
    "too long": {"content": "x" * 300_000},
    "stream that is too long": {"content": "x" * 300_000, "stream": True},
    "engine fails": {"model": "wild"},
    "engine fails in a stream": {"model": "wild", "stream": True},
}


async def ask(client: Client, fields: dict[str, Any]) -> int:
    return (await client.chat(**fields)).status


@pytest.mark.parametrize("fields", CHATS.values(), ids=CHATS)
async def test_a_chat_leaves_nothing(fields: dict[str, Any], kept: list[Any]) -> None:
    async with running(models=MODELS) as client:
        # What is made once for each model.
        status = await ask(client, fields)
        gc.collect()
        kept.clear()
        assert await ask(client, fields) == status
        assert found(kept) == set()


@pytest.mark.parametrize("path", ["/nothing", "/v1/models/nobody", "/v1/sessions/nobody"])
async def test_a_refusal_leaves_nothing(path: str, kept: list[Any]) -> None:
    async with running(models=MODELS) as client:
        await client.get(path)
        gc.collect()
        kept.clear()
        assert (await client.get(path)).status == 404
        assert found(kept) == set()
