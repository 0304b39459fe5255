"""``ark-conformance record SCRIPT``: make a call file from a program's calls through OpenAI's client.

The program runs as it is. Below its HTTP client each request and reply is noted; a request becomes a step with the
client's method and its arguments, the reply's shape becomes what the step expects. Text that a request took from an
earlier reply (an assistant's content, the id of a tool call) becomes ``${name}``, so that the file can be replayed
against another model.
"""

from __future__ import annotations

import argparse
import email.parser
import email.policy
import itertools
import json
import re
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import httpx2
import tomli_w

from ark_conformance.calls import CallFileError, read_file
from ark_conformance.methods import find_method
from ark_conformance.views import view
from ark_conformance.wire import AsyncRecorder, Exchange, Recorder

METHODS = {
    ("POST", "/chat/completions"): "chat.completions.create",
    ("POST", "/completions"): "completions.create",
    ("POST", "/embeddings"): "embeddings.create",
    ("POST", "/audio/transcriptions"): "audio.transcriptions.create",
    ("POST", "/audio/translations"): "audio.translations.create",
    ("POST", "/responses"): "responses.create",
    ("POST", "/moderations"): "moderations.create",
    ("GET", "/models"): "models.list",
}
"""HTTP method and end of the path to the client's method."""

_TRIES = "x-stainless-retry-count"
"""The header in which OpenAI's client counts its retries."""

SHORTEST = 4
"""The fewest characters of a text that is traced to an earlier reply."""

Table = dict[str, Any]

_TEXT: list[Table] = [{"at": "body", "type": "string", "min_length": 1}]
"""The check of a reply that is not JSON."""


class Tape:
    """Records the requests of a program in order."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Record what every httpx2 client does until the block ends."""
        plain, asyncio = httpx2.HTTPTransport.handle_request, httpx2.AsyncHTTPTransport.handle_async_request
        tape = self.exchanges

        def handle(transport: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
            return Recorder(_Plain(transport, plain), tape.append).handle_request(request)

        async def handle_async(transport: httpx2.AsyncHTTPTransport, request: httpx2.Request) -> httpx2.Response:
            return await AsyncRecorder(_Asyncio(transport, asyncio), tape.append).handle_async_request(request)

        with (
            patch.object(httpx2.HTTPTransport, "handle_request", handle),
            patch.object(httpx2.AsyncHTTPTransport, "handle_async_request", handle_async),
        ):
            yield


class _Plain(httpx2.BaseTransport):
    """Call a transport's original method after it was replaced."""

    def __init__(self, transport: httpx2.HTTPTransport, method: Any) -> None:
        self._transport = transport
        self._method = method

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        # A compressed reply could not be read here.
        request.headers["accept-encoding"] = "identity"
        response: httpx2.Response = self._method(self._transport, request)
        return response


class _Asyncio(httpx2.AsyncBaseTransport):
    def __init__(self, transport: httpx2.AsyncHTTPTransport, method: Any) -> None:
        self._transport = transport
        self._method = method

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        response: httpx2.Response = await self._method(self._transport, request)
        return response


class Transcriber:
    """Turns exchanges into the steps of one case."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[int, str]] = {}
        """A text from a reply to its step and path."""
        self._steps: list[Table] = []

    def steps(self, exchanges: Sequence[Exchange]) -> list[Table]:
        """One step for each request to a known route. Others are left out."""
        for exchange in answered(exchanges):
            found = self._step(exchange)
            if found is not None:
                self._steps.append(found)
        return self._steps

    def _step(self, exchange: Exchange) -> Table | None:
        path = urlsplit(exchange.url).path
        if exchange.method == "GET" and (match := re.search(r"/models/(.+)$", path)):
            call, arguments = "models.retrieve", {"model": unquote(match[1])}
        else:
            ends = (name for (method, end), name in METHODS.items() if method == exchange.method and path.endswith(end))
            found = next(ends, None)
            if found is None:
                return None
            call, arguments = found, self._arguments(exchange)
        step: Table = {"call": call}
        if arguments.pop("stream", False) in (True, "true"):
            step["stream"] = True
        elif find_method(call).streams:
            step["stream"] = False
        if call == "embeddings.create" and arguments.get("encoding_format") == "base64":
            # The client asks for base64 by itself. It checks types before it decodes, so that strict checks would fail.
            del arguments["encoding_format"]
            step["strict"] = False
        arguments = self._refer(arguments)
        if arguments:
            step["with"] = arguments
        self._expect(step, exchange)
        return step

    def _arguments(self, exchange: Exchange) -> Table:
        kind = exchange.header_of_request("content-type")
        if kind.startswith("multipart/"):
            return self._form(kind, exchange.request_body)
        try:
            body = json.loads(exchange.request_body or b"{}")
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}

    def _form(self, kind: str, body: bytes) -> Table:
        """The fields of a form. Its files are written beside the call file."""
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        form = parser.parsebytes(b"content-type: " + kind.encode() + b"\r\n\r\n" + body)
        fields: Table = {}
        for part in form.iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            content = part.get_payload(decode=True) or b""
            data = content if isinstance(content, bytes) else b""
            filename = part.get_filename()
            if filename is not None:
                fields[name] = {"$file": self._keep(Path(filename).name or "file", data)}
            elif name.endswith("[]"):
                fields.setdefault(name[:-2], []).append(data.decode())
            else:
                fields[name] = data.decode()
        return fields

    def _keep(self, name: str, data: bytes) -> str:
        """Write a file under its name, or under another one if a different file has that name."""
        for number in itertools.count(1):
            target = self._directory / (name if number == 1 else f"{Path(name).stem}-{number}{Path(name).suffix}")
            if not target.exists():
                target.write_bytes(data)
            if target.is_file() and target.read_bytes() == data:
                break
        return target.name

    def _refer(self, value: Any) -> Any:
        """Replace values from earlier replies with references, and null, which TOML lacks, with a placeholder."""
        if value is None:
            return "${null}"
        if isinstance(value, str):
            if value in self._seen:
                return f"${{{self._save(value)}}}"
            return value.replace("${", "$${")
        if isinstance(value, Mapping):
            return {key: self._refer(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._refer(inner) for inner in value]
        return value

    def _save(self, text: str) -> str:
        number, path = self._seen[text]
        saved = self._steps[number].setdefault("save", {})
        for name, at in saved.items():
            if at == path:
                return str(name)
        name = f"reply{number + 1}_{re.sub(r'[^a-z0-9]+', '_', path.lower()).strip('_').removeprefix('reply_')}"
        saved[name] = path
        return name

    def _expect(self, step: Table, exchange: Exchange) -> None:
        seen = view(exchange, None, None)
        reply = seen.get("reply")
        if not 200 <= exchange.status < 300:
            step["error"] = {"status": exchange.status, **fault(reply)}
            return
        checks = [{"at": "status", "equals": exchange.status}]
        if exchange.is_stream:
            stream = seen["stream"]
            broken = next((chunk for chunk in stream["chunks"] if "error" in chunk), None)
            if broken is not None:
                # The client raises it in the middle of the stream.
                step["error"] = fault(broken)
            elif stream["done"] or exchange.complete:
                checks.append({"at": "stream.done", "equals": stream["done"]})
            else:
                # The program left before the end, and so does the replay.
                step["leave_after"] = max(1, len(stream["events"]))
        step["expect"] = [*checks, *(shape("reply", reply) if reply is not None else _TEXT)]
        for path, value in _texts("reply", reply):
            if len(value) >= SHORTEST:
                self._seen.setdefault(value, (len(self._steps), path))


def answered(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """Leave out requests without a reply, and those that the client retried."""
    kept: list[Exchange] = []
    for exchange in exchanges:
        if exchange.header_of_request(_TRIES) not in ("", "0"):
            same = (exchange.method, exchange.url, tried(exchange))
            before = [one for one in kept if (one.method, one.url, tried(one)) == same]
            if before and before[-1].status >= 400:
                kept.remove(before[-1])
        if exchange.status:
            kept.append(exchange)
    return kept


def tried(exchange: Exchange) -> bytes:
    """A body that compares equal when retried: a form's random boundary is removed."""
    _, _, boundary = exchange.header_of_request("content-type").partition("boundary=")
    return exchange.request_body.replace(boundary.encode(), b"") if boundary else exchange.request_body


def fault(reply: Any) -> dict[str, str]:
    """The code and parameter of an error, where it has them."""
    error = reply.get("error") if isinstance(reply, dict) else None
    if not isinstance(error, dict):
        return {}
    return {name: error[name] for name in ("code", "param") if isinstance(error.get(name), str)}


def shape(path: str, value: Any) -> list[Table]:
    """Checks of every type in a reply. Lists are checked by their first element, ``object`` and ``role`` by value."""
    if isinstance(value, dict):
        return [check for key, inner in value.items() if _is_plain(key) for check in shape(f"{path}.{key}", inner)]
    if isinstance(value, list):
        if not value or not isinstance(value[0], (dict, list)):
            return [{"at": path, "type": "array"}]
        return [{"at": path, "type": "array", "min_length": 1}, *shape(f"{path}[0]", value[0])]
    if path.rpartition(".")[2] in ("object", "role") and isinstance(value, str):
        return [{"at": path, "equals": value}]
    return [{"at": path, "type": _type(value)}]


def _type(value: Any) -> str | list[str]:
    if isinstance(value, bool):
        return "boolean"
    # A field that is null now may have any type another time.
    names = {str: "string", int: "integer", float: "number"}
    return names.get(type(value)) or ["null", "string", "integer", "number", "object", "array", "boolean"]


def _is_plain(key: str) -> bool:
    return re.search(r"[.\[\]]", key) is None and bool(key)


def _texts(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if path.rpartition(".")[2] not in ("object", "role", "model", "type", "finish_reason", "system_fingerprint"):
            yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if _is_plain(key):
                yield from _texts(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value[:64]):
            yield from _texts(f"{path}[{number}]", inner)


def write(path: Path, exchanges: Sequence[Exchange], area: str) -> int:
    """Write a call file with one case. Returns the number of its steps; with 0, no file is written."""
    steps = Transcriber(path.parent).steps(exchanges)
    if not steps:
        return 0
    case = {"name": "recorded", "about": f"The calls of {area}, and the shapes of their replies.", "step": steps}
    table: Table = {"area": area, "about": f"Recorded from {area}.", "case": [case]}
    text = json.dumps(table, indent=1) if path.suffix == ".json" else tomli_w.dumps(table)
    path.write_text(text, encoding="utf-8")
    read_file(path)
    return len(steps)


def main(arguments: Sequence[str]) -> int:
    """Run the command. The exit status is 0 if calls were written, 1 if the program failed, 2 if it made no calls, and
    130 if it was interrupted. What was recorded until then is written in any case."""
    parser = argparse.ArgumentParser(
        prog="ark-conformance record", description="Make a call file of a program's calls."
    )
    parser.add_argument("script", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the script's own arguments")
    parser.add_argument("-o", "--output", type=Path, help="a .toml or .json file (default: SCRIPT.calls.toml)")
    options = parser.parse_args(arguments)
    output: Path = options.output or options.script.with_suffix(".calls.toml")
    if not options.script.is_file():
        print(f"{options.script}: there is no such file", file=sys.stderr)
        return 2
    if not output.parent.is_dir():
        print(f"{output}: there is no such directory", file=sys.stderr)
        return 2
    area = re.sub(r"[^a-z0-9]+", "-", options.script.stem.lower()).strip("-") or "recorded"
    tape, status = Tape(), 0
    before, paths = sys.argv, sys.path
    sys.argv = [str(options.script), *options.arguments]
    # Like Python itself, put the script's folder on the path.
    sys.path = [str(options.script.resolve().parent), *paths]
    try:
        with tape.running():
            runpy.run_path(str(options.script), run_name="__main__")
    except SystemExit as ended:
        status = 1 if ended.code not in (None, 0) else 0
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except KeyboardInterrupt:
        # This is how to end a program that runs for ever.
        status = 130
    except Exception as error:  # noqa: BLE001 - what is recorded so far is still useful
        print(f"{options.script} failed: {type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    finally:
        sys.argv, sys.path = before, paths
    try:
        steps = write(output, tape.exchanges, area)
    except CallFileError as error:
        print(error, file=sys.stderr)
        return 1
    if not steps:
        print(f"{options.script} made no call that can be recorded", file=sys.stderr)
        return status or 2
    print(f"{steps} calls in {output}")
    return status
