"""GET /sessions in pages, and whose conversations are found."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import pytest
from asgi_client import Client, running

pytestmark = pytest.mark.anyio


async def page(client: Client, **query: Any) -> tuple[list[str], bool]:
    reply = await client.get("/v1/sessions", query="&".join(f"{name}={value}" for name, value in query.items()))
    body = reply.json()
    return [one["id"] for one in body["data"]], body["has_more"]


async def test_pages_give_every_session_once_the_newest_first() -> None:
    names = [str(uuid.UUID(int=number)) for number in range(25)]
    async with running() as client:
        for name in names:
            await client.chat("hello", ark_stateful=name)
        first, more = await page(client)
        second, still = await page(client, after=first[-1])
        exact = await page(client, limit=25)
        last = await page(client, after=names[0])
        one = await page(client, limit=1, after=names[24])
    newest = names[::-1]
    assert (first, more) == (newest[:20], True)
    assert (second, still) == (newest[20:], False)
    assert exact == (newest, False)
    assert last == ([], False)
    assert one == ([names[23]], True)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("after=x", "after"),
        ("after=null", "after"),
    ],
)
async def test_a_wrong_page_is_refused(query: str, param: str) -> None:
    async with running() as client:
        await client.chat("hello")
        reply = await client.get("/v1/sessions", query=query)
    assert (reply.status, reply.error["param"]) == (400, param)


class Elsewhere(Client):
    """Sends its requests from another address; without one, as through a Unix socket."""

    address: str | None = None

    def _scope(self, *args: Any) -> dict[str, Any]:
        return super()._scope(*args) | {"client": self.address and (self.address, 1)}


@pytest.mark.parametrize("keys", [[], [{"name": "a", "sha256": hashlib.sha256(b"secret").hexdigest()}]])
@pytest.mark.parametrize("address", ["10.0.0.9", None])
async def test_without_keys_a_conversation_is_found_from_its_own_address_only(
    keys: list[dict[str, str]], address: str | None
) -> None:
    async with running(keys=keys) as client:
        elsewhere = Elsewhere(client.app)
        elsewhere.address = address
        headers = [("authorization", "Bearer secret")]
        first = await client.chat("a", headers=headers)
        history = [{"role": "user", "content": "a"}, first.json()["choices"][0]["message"]]
        more = {"messages": [*history, {"role": "user", "content": "b"}], "headers": headers}
        theirs, own = await elsewhere.chat(**more), await client.chat(**more)
    assert theirs.headers["x-ark-session"].partition("; ")[2] == ("continued; content" if keys else "created")
    assert own.headers["x-ark-session"].partition("; ")[2] == ("rewound; content" if keys else "continued; content")
