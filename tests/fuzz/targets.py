"""What the fuzzers call: a function of bytes for each part that reads what others wrote. An exception is a find."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import msgspec
from responses_target import responses
from server_targets import connection
from sse import read_events

from ark.api.chat.schema import ChatRequest
from ark.api.embeddings.schema import EmbeddingRequest
from ark.api.request import check_shape, decode
from ark.chat.output.reasoning import ReasoningSplitter
from ark.chat.tools.formats import FORMATS
from ark.chat.tools.parser import ToolParser
from ark.config import LimitsConfig
from ark.errors import APIError, BadRequest
from ark.http.forms import FormReader, boundary_of
from ark.http.request import read_cookies
from ark.http.sse import text_event

DECODERS = [msgspec.json.Decoder(ChatRequest), msgspec.json.Decoder(EmbeddingRequest)]
SCHEMAS = {"look": {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}, "stop": {}}


def cookies(data: bytes) -> None:
    """Another header's pairs never hide or change the session's."""
    header = data.decode("latin-1")
    found = read_cookies(header)
    assert all(name == name.strip() and ";" not in name + value for name, value in found.items())
    assert read_cookies(f"{header};fuzzed=1").get("fuzzed") == found.get("fuzzed", "1")


def json_door(data: bytes) -> None:
    """A body is a request or a 400; and of JSON the depth is told exactly."""
    for decoder in DECODERS:
        try:
            decode(decoder, data, LimitsConfig(json_depth=16))
        except BadRequest as error:
            error.message.encode()
    try:
        # With both values of a name that stands twice.
        depth = _depth(json.loads(data, object_pairs_hook=lambda pairs: dict(enumerate(value for _, value in pairs))))
    except (ValueError, RecursionError):
        return
    assert not _is_deeper(data, depth)
    # A limit is 1 at least.
    assert depth <= 1 or _is_deeper(data, depth - 1)


def _is_deeper(data: bytes, depth: int) -> bool:
    try:
        check_shape(data, depth=depth, values=sys.maxsize)
    except BadRequest:
        return True
    return False


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def events(data: bytes) -> None:
    """A client reads the text that was sent, line breaks as line feeds."""
    text = data.decode("utf-8", "replace")
    (event,) = read_events(text_event(text).decode()) or [None]
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert (expected == "") if event is None else event.data == expected


def form(data: bytes) -> None:
    """How a form is cut makes no difference: it is read, or it is a 400, whichever piece says so."""
    cut, body = _cut_bytes(data)
    assert _read_form(cut) == _read_form([body])


def _read_form(pieces: list[bytes]) -> object:
    reader = FormReader(b"edge", files=["file"])
    try:
        for piece in pieces:
            reader.feed(piece)
        read = reader.end()
        files = {name: (one.filename, one.size, one.file.read()) for name, one in read.files.items()}
        assert all(size == len(content) for _, size, content in files.values())
    except BadRequest as error:
        error.message.encode()
        return None
    else:
        return read.fields, files
    finally:
        reader.close()


def content_type(data: bytes) -> None:
    """A boundary, or an error of the client's."""
    try:
        boundary = boundary_of(data.decode("latin-1"))
    except APIError as error:
        assert error.status in (400, 415)  # noqa: PT017
        error.message.encode()
        return
    FormReader(boundary, files=[]).close()


def reasoning(data: bytes) -> None:
    """How the text is cut makes no difference, and nothing but white space and tags is lost."""
    cut, text = _pieces(data)
    for opened in (True, False):
        assert _split(cut, opened=opened) == _split([text], opened=opened)


def _split(pieces: list[str], *, opened: bool) -> tuple[str, str]:
    splitter = ReasoningSplitter(opened=opened)
    parts = [*map(splitter.push, pieces), splitter.flush()]
    return "".join(one for one, _ in parts), "".join(one for _, one in parts)


def tool_calls(data: bytes) -> None:
    """How the text is cut makes no difference, in any format."""
    cut, text = _pieces(data)
    for name in FORMATS:
        assert _calls(cut, name) == _calls([text], name), name


def _calls(pieces: list[str], form: str) -> tuple[str, list[tuple[str | None, str]]]:
    parser = ToolParser(FORMATS[form], SCHEMAS, new_id=lambda: "id")
    content, calls = "", list[tuple[str | None, str]]()
    for more, deltas in [*map(parser.push, pieces), parser.flush()]:
        content += more
        for delta in deltas:
            if delta.id is not None:
                calls.append((delta.name, ""))
            known, arguments = calls[delta.index]
            calls[delta.index] = known, arguments + delta.arguments
    return content, calls


def _pieces(data: bytes) -> tuple[list[str], str]:
    """A text and how it is cut: the first eight bytes are the lengths of the pieces, over and over."""
    text = data[8:].decode("utf-8", "replace")
    return [text[start:end] for start, end in _cuts(data[:8], len(text))], text


def _cut_bytes(data: bytes) -> tuple[list[bytes], bytes]:
    body = data[8:]
    return [body[start:end] for start, end in _cuts(data[:8], len(body))], body


def _cuts(lengths: bytes, size: int) -> Iterator[tuple[int, int]]:
    place = number = 0
    while place < size:
        end = place + 1 + (lengths[number % len(lengths)] % 16 if lengths else 0)
        yield place, end
        place, number = end, number + 1


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (cookies, json_door, form, content_type, events, reasoning, tool_calls, connection, responses)
}
if all(map(find_spec, ("torch", "llguidance", "av"))):
    from engine_targets import TARGETS as ENGINE_TARGETS

    TARGETS |= ENGINE_TARGETS
