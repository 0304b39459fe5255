"""The client of the commands that call a server: its address, its replies and its errors."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import httpx

URL = "http://127.0.0.1:8000"
CONNECT = 5.0
"""Seconds in which a server has to take the connection."""


class CommandError(Exception):
    """A command fails; the message says what to do about it."""


def require(module: str, extra: str = "cli") -> ModuleType:
    """Import a module that an extra brings. Raises CommandError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CommandError(f"this needs {module}: pip install 'ark-server[{extra}]'") from error


def add_server_arguments(parser: argparse.ArgumentParser, *, positional: bool = False) -> None:
    """``--url``, or URL as the first argument, and ``--key``: without them the environment, then a server on this
    machine."""
    url = os.environ.get("ARK_URL") or URL
    text = f"where the server is; otherwise $ARK_URL, or {URL}"
    if positional:
        parser.add_argument("url", metavar="URL", nargs="?", default=url, help=text)
    else:
        parser.add_argument("--url", default=url, help=text)
    parser.add_argument("--key", default=None, help="an API key of the server; otherwise $ARK_API_KEY")


def base_url(url: str) -> str:
    """The address of the API: with ``/v1``, and without a slash at its end."""
    bare = url.rstrip("/")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


def headers(key: str | None) -> dict[str, str]:
    chosen = key or os.environ.get("ARK_API_KEY")
    return {"authorization": f"Bearer {chosen}"} if chosen else {}


class Client:
    """A server that one command calls. Raises CommandError if a call fails."""

    def __init__(self, url: str, key: str | None) -> None:
        self._httpx = require("httpx")
        self.url = base_url(url)
        timeout = self._httpx.Timeout(None, connect=CONNECT)
        try:
            self._http: httpx.Client = self._httpx.Client(timeout=timeout, headers=headers(key))
        except ValueError as error:
            raise CommandError("the key cannot be sent: it is not plain text") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._http.close()

    def get(self, path: str) -> Any:
        return self._json("GET", path)

    def text(self, path: str) -> str:
        with self._errors():
            reply = self._http.get(f"{self.url}{path}")
        self._check(reply)
        return reply.text

    def post(self, path: str, body: Any) -> Any:
        return self._json("POST", path, json=body)

    def upload(self, path: str, fields: dict[str, Any], name: str, data: bytes) -> str:
        """The text of the reply to a form with one file."""
        with self._errors():
            reply = self._http.post(f"{self.url}{path}", data=fields, files={"file": (name, data)})
        self._check(reply)
        return reply.text

    def events(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """The events of a streamed reply, but for the ``[DONE]`` at its end."""
        with self._errors(), self._http.stream("POST", f"{self.url}{path}", json=body) as reply:
            self._check(reply)
            for line in reply.iter_lines():
                event = read_event(line)
                if event is not None:
                    yield event

    def model(self, asked: str | None, task: str) -> str:
        """The model that was named, else the first one of a task that the server lists."""
        if asked is not None:
            return asked
        listed = self.get("/models")["data"]
        for model in listed:
            # Other servers list no tasks: take their first model.
            if model.get("ark", {}).get("task", task) == task:
                return str(model["id"])
        raise CommandError(f"{self.url} serves no {task} model; 'ark models' lists what it serves")

    def _json(self, method: str, path: str, **more: Any) -> Any:
        with self._errors():
            reply = self._http.request(method, f"{self.url}{path}", **more)
        self._check(reply)
        try:
            return reply.json()
        except ValueError as error:
            raise CommandError(f"{self.url}{path} does not answer as OpenAI's API does") from error

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (self._httpx.InvalidURL, self._httpx.UnsupportedProtocol) as error:
            raise CommandError(f"{self.url} is not the address of a server") from error
        except self._httpx.ConnectError as error:
            raise CommandError(self._no_connection(str(error))) from error
        except self._httpx.HTTPError as error:
            raise CommandError(f"{self.url} broke off: {type(error).__name__}") from error

    def _no_connection(self, reason: str) -> str:
        """Why there is no connection and what to do about it, by the HTTP client's reason."""
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return f"the certificate of {self.url} is not trusted: $SSL_CERT_FILE names a file with one that is"
        if "SSL" in reason:
            return f"{self.url} does not speak HTTPS: try http://"
        return f"no server answers at {self.url}: start one by 'ark serve', or give the address of another"

    def _check(self, reply: httpx.Response) -> None:
        if reply.is_error:
            raise CommandError(error_message(reply.status_code, reply.read()))


def read_event(line: str) -> dict[str, Any] | None:
    """The JSON of one line of a stream, None for a line without. Raises CommandError for an error event."""
    if not line.startswith("data:") or line == "data: [DONE]":
        return None
    try:
        event = json.loads(line.removeprefix("data:"))
    except ValueError as error:
        raise CommandError("the server sends a stream that is not OpenAI's") from error
    if not isinstance(event, dict):
        raise CommandError("the server sends a stream that is not OpenAI's")
    if "error" in event:
        raise CommandError(_message(event) or "the server broke off the reply")
    return event


async def aread_events(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    """`read_event` of each line that has one."""
    async for line in lines:
        event = read_event(line)
        if event is not None:
            yield event


def error_message(status: int, body: bytes) -> str:
    """The message of an error reply: that of OpenAI's errors, or the bare status."""
    hint = " (give a key by --key or $ARK_API_KEY)" if status == 401 else ""
    try:
        message = _message(json.loads(body))
    except ValueError:
        message = None
    return f"{message or 'the server refuses'} [{status}]{hint}"


def _message(answer: Any) -> str | None:
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else None
