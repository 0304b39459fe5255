"""Multipart forms: a body, chunk by chunk, becomes texts and spooled files. A wrong one is a 400 that says why."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Collection, Mapping, Sequence
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Any

import anyio
import anyio.to_thread
import msgspec
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserError,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from ark.http.errors import BadRequest, UnsupportedMediaType, shorten
from ark.http.threads import run_in_thread

MULTIPART = "multipart/form-data"

IN_MEMORY = 1024 * 1024
"""Bytes of a file that are kept in memory; a larger one goes to disk."""
MAX_PARTS = 64
MAX_TEXT = 64 * 1024
"""Bytes of one field's text."""
MAX_HEADERS = 8
"""Header lines of one part; RFC 7578 has three."""
MAX_HEADER = 4096
"""Bytes of one header line."""
MAX_BOUNDARY = 70
"""Characters, as in RFC 2046."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a form."""

    filename: str
    """As the client calls it: not to be trusted with a path."""
    file: IO[bytes]
    """At its beginning once the form has been read."""
    size: int
    """Bytes."""


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """A form that has been read. Whoever has it closes it."""

    fields: Mapping[str, Sequence[str]]
    """Texts by name, several where a name was sent several times."""
    files: Mapping[str, Upload]

    def close(self) -> None:
        for upload in self.files.values():
            upload.file.close()

    async def aclose(self) -> None:
        """Close the files in a thread, whatever is cancelled."""
        await _finally(self.close)


def boundary_of(content_type: str) -> bytes:
    """What separates the parts. Raises UnsupportedMediaType for another type, and BadRequest without a boundary."""
    parsed: tuple[str, dict[str, str]] = parse_options_header(content_type)  # type: ignore[no-untyped-call]
    kind, options = parsed
    if kind.strip().lower() != MULTIPART:
        shown = shorten(content_type.partition(";")[0].strip()) or "nothing"
        raise UnsupportedMediaType(f"The body is sent as {shown}; this route reads {MULTIPART}.")
    boundary = options.get("boundary", "")
    if not 1 <= len(boundary) <= MAX_BOUNDARY or not boundary.isprintable():
        raise _invalid(f"The content type {MULTIPART} needs a boundary of 1 to {MAX_BOUNDARY} characters.")
    return boundary.encode("latin-1", "replace")


class _Parser(PushMultipartParser):
    """Checks header lines itself: what multipart's own parser makes of these two depends on how the body is cut."""

    def _on_segment_headerline(self, line: bytes) -> None:
        if b"\n" in line:
            raise ParserError("A line feed alone in a part's head")
        if len(line) > MAX_HEADER:
            raise ParserLimitReached("A line of a part's head is too long")
        super()._on_segment_headerline(line)


class FormReader:
    """Takes a body chunk by chunk; `files` are the fields that are files. Close it, in every case: the form that `end`
    returns is closed with it."""

    def __init__(self, boundary: bytes, *, files: Collection[str]) -> None:
        self._names = frozenset(files)
        self._opening = b"--" + boundary
        self._head = b""
        # One byte more, for the carriage return of a line end that is cut in two.
        limits = {"max_header_size": MAX_HEADER + 1, "max_header_count": MAX_HEADERS, "max_segment_count": MAX_PARTS}
        self._parser = _Parser(boundary, **limits)
        self._fields: dict[str, list[str]] = {}
        self._files: dict[str, Upload] = {}
        self._segment: Any = None
        self._file: SpooledTemporaryFile[bytes] | None = None
        self._text = bytearray()
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises BadRequest."""
        if not chunk:
            # The parser takes it for the end.
            return
        if self._opening:
            # What the parser makes of anything before the first boundary depends on how the body is cut.
            self._head += chunk
            if len(self._head) < len(self._opening) + 2:
                return
            if not self._head.startswith((self._opening, b"\r\n" + self._opening)):
                raise _invalid(f"The body is not a form, as {MULTIPART} has it: it does not begin with the boundary.")
            self._opening, chunk = b"", self._head
        try:
            for event in self._parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._finish()
                else:
                    self._write(event)
        except MultipartError as error:
            raise _unreadable(error) from error

    def end(self) -> Form:
        """The form, once the body has ended. Raises BadRequest for one that broke off."""
        try:
            self._parser.close()  # type: ignore[no-untyped-call]
        except MultipartError as error:
            raise _unreadable(error) from error
        for upload in self._files.values():
            upload.file.seek(0)
        return Form(fields=self._fields, files=self._files)

    def close(self) -> None:
        self._parser.close(check_complete=False)  # type: ignore[no-untyped-call]
        for file in (self._file, *(upload.file for upload in self._files.values())):
            if file is not None:
                file.close()

    def _begin(self, segment: MultipartSegment) -> None:
        self._segment, self._size = segment, 0
        name = segment.name or ""
        if name not in self._names:
            if segment.filename is not None:
                raise _invalid("a file was sent, and a text is expected", field=name)
        elif segment.filename is None:
            raise _invalid("a text was sent, and a file is expected", field=name)
        elif name in self._files:
            raise _invalid("two files were sent, and one is read", field=name)
        else:
            self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115

    def _write(self, data: bytes | bytearray) -> None:
        self._size += len(data)
        if self._file is not None:
            self._file.write(data)
        elif self._size > MAX_TEXT:
            what = f"the text is longer than {MAX_TEXT} bytes"
            raise _invalid(what, field=self._segment.name or "", code="string_above_max_length")
        else:
            self._text += data

    def _finish(self) -> None:
        name = self._segment.name or ""
        if self._file is not None:
            # Kept first, so that it is closed whatever comes.
            self._files[name] = Upload(filename=self._segment.filename, file=self._file, size=self._size)
            self._file = None
            if not self._size:
                raise _invalid("the file is empty", field=name, code="invalid_value")
            return
        try:
            self._fields.setdefault(name, []).append(self._text.decode())
        except UnicodeDecodeError as error:
            raise _invalid("the text is not UTF-8", field=name) from error
        self._text.clear()


async def read_form(chunks: AsyncIterable[bytes], boundary: bytes, *, files: Collection[str]) -> Form:
    """The form of a body. What may touch the disk runs in a thread. Raises BadRequest, and what `chunks` raises."""
    reader = FormReader(boundary, files=files)
    try:
        async for chunk in chunks:
            await run_in_thread(partial(reader.feed, chunk))
        return await run_in_thread(reader.end)
    except BaseException:
        await _finally(reader.close)
        raise


async def _finally(close: Callable[[], None]) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(close)


def _unreadable(error: MultipartError) -> BadRequest:
    if isinstance(error, ParserLimitReached):
        return _invalid(
            f"The form is over a limit: {MAX_PARTS} parts, {MAX_HEADERS} header lines a part, {MAX_HEADER} bytes each."
        )
    what = "is not a form" if isinstance(error, ParserError) else "breaks off"
    # Without its cause, which may be an exception of Python's.
    return _invalid(f"The body {what}, as {MULTIPART} has it: {shorten(str(error.args[0]))}.")


def _invalid(what: str, *, field: str | None = None, code: str = "invalid_form") -> BadRequest:
    if field is None:
        return BadRequest(what, code=code)
    shown = shorten(field)
    return BadRequest(f"Invalid '{shown}': {what}.", param=shown, code=code)
