"""Forms, piece by piece."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from itertools import pairwise
from tempfile import SpooledTemporaryFile

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.errors import APIError, BadRequest, UnsupportedMediaType
from ark.http import forms
from ark.http.forms import IN_MEMORY, MAX_HEADER, MAX_PARTS, MAX_TEXT, FormReader, boundary_of, read_form

B = b"limit"


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    more = "" if filename is None else f'; filename="{filename}"'
    return f'--limit\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--limit--\r\n"


WHOLE = body(
    part("model", b"whisper-1"), part("file", b"\r\n--lim\x00" * 9, "a.wav"), part("x", "ä".encode()), part("x", b"")
)


def read(pieces: Iterable[bytes]) -> tuple[dict[str, list[str]], dict[str, tuple[str, bytes, int]]]:
    reader = FormReader(B, files={"file"})
    try:
        for piece in pieces:
            reader.feed(piece)
        form = reader.end()
        return (
            {name: list(texts) for name, texts in form.fields.items()},
            {name: (one.filename, one.file.read(), one.size) for name, one in form.files.items()},
        )
    finally:
        reader.close()


@given(cuts=st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_any_split_is_the_same_form(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    fields, files = read(WHOLE[start:end] for start, end in pairwise(places))
    assert fields == {"model": ["whisper-1"], "x": ["ä", ""]}
    assert files == {"file": ("a.wav", b"\r\n--lim\x00" * 9, 63 + 9)}


@given(start=st.integers(0, len(WHOLE)), noise=st.binary(max_size=40))
def test_garbage_is_a_form_or_a_400(start: int, noise: bytes) -> None:
    # Any other exception would be a 500.
    with suppress(BadRequest):
        read([WHOLE[:start], noise, WHOLE[start + len(noise) :]])


@pytest.mark.parametrize("end", range(0, len(WHOLE) - 4, 7))
def test_a_body_that_breaks_off(end: int) -> None:
    with pytest.raises(BadRequest):
        read([WHOLE[:end]])


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        (body(part("file", b"text")), "file", "invalid_form"),
        (body(part("model", b"x", "model.txt")), "model", "invalid_form"),
        (body(part("file", b"a", "a"), part("file", b"b", "b")), "file", "invalid_form"),
        (body(part("file", b"", "a")), "file", "invalid_value"),
        (body(part("prompt", b"\xff")), "prompt", "invalid_form"),
        (body(part("prompt", b"a" * (MAX_TEXT + 1))), "prompt", "string_above_max_length"),
        (body(*[part("x", b"")] * (MAX_PARTS + 1)), None, "invalid_form"),
        (b"--limit\r\nX: " + b"a" * 5000, None, "invalid_form"),
        (b"--limit\r\n" + b"X: a\r\n" * 9 + b"\r\n", None, "invalid_form"),
        (b"--limit\r\nContent-Type: text/plain\r\n\r\na\r\n--limit--", None, "invalid_form"),
        (b"", None, "invalid_form"),
    ],
)
def test_what_is_refused(sent: bytes, param: str | None, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read([sent])
    assert (caught.value.param, caught.value.code) == (param, code)


def test_what_is_said_of_it_holds_no_exception_of_pythons() -> None:
    with pytest.raises(BadRequest) as caught:
        read([b'--limit\r\nContent-Disposition: form-data; name="\xff"\r\n\r\na\r\n--limit--'])
    assert caught.value.message.endswith("has it: Segment header failed to decode.")


def is_form(pieces: Iterable[bytes]) -> bool:
    try:
        read(pieces)
    except BadRequest:
        return False
    return True


def at_every_cut(sent: bytes) -> set[bool]:
    """Whether it is a form: whole, in two pieces, and byte by byte."""
    halves = {is_form([sent[:cut], sent[cut:]]) for cut in range(len(sent))}
    return halves | {is_form(sent[place : place + 1] for place in range(len(sent)))}


@pytest.mark.parametrize(
    "head",
    [
        b'\nContent-Disposition: form-data; name="x"',
        b'Content-Disposition\n: form-data; name="x"',
        b'Content-Disposition:\nform-data; name="x"',
        b'Content-Disposition: form-data; name="x"\n',
        b'Content-Disposition: form-data; name="x"\r\n\n',
        b'Content-Disposition: form-data; name="x"\r\n \na',
        b'Content-Disposition: form-data; name="x"\nX: a',
        b'\n\r\nContent-Disposition: form-data; name="x"',
    ],
)
def test_a_line_feed_alone_in_a_head_is_refused_however_it_is_cut(head: bytes) -> None:
    assert at_every_cut(b"--limit\r\n" + head + b"\r\n\r\na\r\n--limit--\r\n") == {False}


@pytest.mark.parametrize(("size", "fits"), [(MAX_HEADER, True), (MAX_HEADER + 1, False)])
def test_how_long_a_line_of_a_head_may_be_is_the_same_however_it_is_cut(size: int, fits: bool) -> None:
    line = b"X: " + b"a" * (size - 3)
    sent = b'--limit\r\nContent-Disposition: form-data; name="x"\r\n' + line + b"\r\n\r\na\r\n--limit--\r\n"
    assert at_every_cut(sent) == {fits}


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("", UnsupportedMediaType),
        ("application/json", UnsupportedMediaType),
        ("multipart/form-data", BadRequest),
        ("multipart/form-data; boundary=", BadRequest),
        (f"multipart/form-data; boundary={'a' * 71}", BadRequest),
    ],
)
def test_a_content_type_that_is_refused(header: str, error: type[APIError]) -> None:
    with pytest.raises(error):
        boundary_of(header)


def test_the_boundary() -> None:
    assert boundary_of('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"


@pytest.mark.anyio
@pytest.mark.parametrize("piece", [64 * 1024, 3 * IN_MEMORY])
async def test_a_large_file_goes_to_disk_and_is_closed(piece: int) -> None:
    data = bytes(range(256)) * (2 * IN_MEMORY // 256)
    sent = body(part("file", data, "a"))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), piece):
            yield sent[start : start + piece]

    form = await read_form(pieces(), B, files={"file"})
    upload = form.files["file"]
    assert upload.file.fileno() >= 0
    assert (upload.file.read(), upload.size) == (data, len(data))
    with anyio.CancelScope() as left:
        left.cancel()
        await form.aclose()
    assert upload.file.closed


@pytest.mark.anyio
async def test_the_disk_is_touched_in_threads_only(monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[str] = []
    loop = threading.get_ident()

    class Watched(SpooledTemporaryFile):  # type: ignore[type-arg]
        def seek(self, *args: int) -> int:
            self._touch("seek")
            return super().seek(*args)

        def close(self) -> None:
            if not self.closed:
                self._touch("close")
            super().close()

        def _touch(self, what: str) -> None:
            assert threading.get_ident() != loop, what
            touched.append(what)

    monkeypatch.setattr(forms, "SpooledTemporaryFile", Watched)
    large = part("file", b"a" * (2 * IN_MEMORY), "a")

    async def pieces(sent: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 64 * 1024):
            yield sent[start : start + 64 * 1024]

    form = await read_form(pieces(body(large)), B, files={"file"})
    await form.aclose()
    for broken in (large, body(large, part("file", b"second", "b"))):
        with pytest.raises(BadRequest):
            await read_form(pieces(broken), B, files={"file"})
    assert touched == ["seek", "close", "close", "close"]
