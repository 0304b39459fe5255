"""HTTP to the engines. What a job needs runs on the event loop, what a check needs in a thread."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from ark.config import ConfigError
from ark_backends.remote.options import RemoteOptions

log = logging.getLogger("ark.remote")

KEEP_ALIVE = 3.0
"""Seconds that an idle connection is kept: less than the five after which the engines' servers close it."""

MAX_EVENT = 8 << 20
"""Bytes of one event: an engine that sends no line break takes no more memory."""

encode = msgspec.json.Encoder().encode


class EngineDown(Exception):
    """An engine cannot be reached, has failed, or broke off."""


class EngineBusy(EngineDown):
    """An engine takes no more requests for now."""


class EngineRefused(Exception):
    """An engine takes a request for wrong."""


class Clients:
    """Connections to all engines of a model."""

    def __init__(self, options: RemoteOptions) -> None:
        """Raises ConfigError."""
        key = _key(options)
        self.secret = hashlib.sha256(key.encode()).digest()
        """For what only those who know the engine's key are to guess."""
        self._settings: dict[str, Any] = {
            "headers": {"authorization": f"Bearer {key}"} if key else {},
            "verify": options.tls(),
            "timeout": httpx2.Timeout(options.read_timeout, connect=options.connect_timeout, pool=None),
            "limits": httpx2.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE),
        }
        self._client = httpx2.AsyncClient(**self._settings)

    async def close(self) -> None:
        await self._client.aclose()

    def checking(self, url: str, timeout: float) -> httpx2.Client:
        """A client of one engine, for a thread."""
        return httpx2.Client(base_url=url, **{**self._settings, "timeout": timeout})

    async def post(self, url: str, body: Any) -> bytes:
        """The body of the reply. Raises the errors of this module."""
        async with self._send(url, body) as response:
            return await response.aread()

    async def post_form(self, url: str, fields: Mapping[str, Any], file: Any) -> bytes:
        """The reply to a form with a file. Raises the errors of this module."""
        request = self._client.build_request("POST", url, data=fields, files={"file": file})
        async with self._sent(request) as response:
            return await response.aread()

    async def events(self, url: str, body: Any) -> AsyncGenerator[bytes, None]:
        """The data of the server-sent events that a request is answered with, up to ``[DONE]``; an empty one when
        the engine has accepted it. Closing the generator closes the connection, by which the engine knows that nobody
        waits. Raises the errors of this module."""
        async with self._send(url, body) as response:
            yield b""
            rest = b""
            async for chunk in response.aiter_bytes():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    name, _, data = line.partition(b":")
                    if name == b"error":
                        raise EngineDown(_short(data))
                    if name == b"data":
                        if (data := data.strip()) == b"[DONE]":
                            return
                        yield data
                if len(rest) > MAX_EVENT:
                    raise EngineDown("it sends an event without end")

    def _send(self, url: str, body: Any) -> AbstractAsyncContextManager[httpx2.Response]:
        request = self._client.build_request(
            "POST", url, content=encode(body), headers={"content-type": "application/json"}
        )
        return self._sent(request)

    @asynccontextmanager
    async def _sent(self, request: httpx2.Request) -> AsyncIterator[httpx2.Response]:
        try:
            response = await self._client.send(request, stream=True)
            try:
                await _check(response)
                yield response
            finally:
                await response.aclose()
        except httpx2.TransportError as error:
            raise EngineDown(str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class Connection:
    """To one engine."""

    clients: Clients
    url: str

    async def post(self, path: str, body: Any) -> bytes:
        return await self.clients.post(self.url + path, body)

    def events(self, path: str, body: Any) -> AsyncGenerator[bytes, None]:
        return self.clients.events(self.url + path, body)


async def _check(response: httpx2.Response) -> None:
    if response.status_code == 200:
        return
    said = f"{response.status_code} {_short(await response.aread())}"
    if response.status_code in (429, 503):
        raise EngineBusy(said)
    # A key that is wrong is the operator's mistake, and not that of a request.
    if response.status_code >= 500 or response.status_code in (401, 403, 404):
        raise EngineDown(said)
    raise EngineRefused(said)


def _short(said: bytes) -> str:
    return " ".join(said.decode(errors="replace").split())[:500]


def _key(options: RemoteOptions) -> str:
    if options.api_key_env is None:
        return ""
    key = os.environ.get(options.api_key_env)
    if not key:
        raise ConfigError(f"the environment variable {options.api_key_env} of api_key_env is not set")
    return key
