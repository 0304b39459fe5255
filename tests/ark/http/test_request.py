"""Headers, cookies and bodies."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.errors import BodyTooLarge, RequestTimeout
from ark.http.request import Body, ClientDisconnect, read_cookies, read_headers, route_path


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/models", "", "/models"),
        ("/models/", "", "/models"),
        ("/models//", "", "/models"),
        ("/", "", "/"),
        ("", "", "/"),
        ("/ark/models", "/ark", "/models"),
        ("/models", "/ark", "/models"),
        ("/ark/models", "/ark/", "/models"),
        ("/ark", "/ark", "/"),
        ("/ark/", "/ark", "/"),
        ("/arkmodels", "/ark", "/arkmodels"),
        ("/ark/ark/models", "/ark", "/ark/models"),
        ("/models", "/", "/models"),
    ],
)
def test_the_path_below_the_mount_point(path: str, root: str, expected: str) -> None:
    assert route_path({"path": path, "root_path": root}) == expected


def test_a_server_that_knows_no_root_path() -> None:
    assert route_path({"path": "/models"}) == "/models"


def test_headers_are_lower_case_and_repeated_ones_joined() -> None:
    raw = [(b"X-A", b"1"), (b"x-a", b"2"), (b"cookie", b"a=1"), (b"Cookie", b"b=2"), (b"x-b", b"\xff")]
    assert read_headers({"headers": raw}) == {b"x-a": b"1, 2", b"cookie": b"a=1; b=2", b"x-b": b"\xff"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1", {"a": "1"}),
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2;", {"a": "1", "b": "2"}),
        ("a=1; a=2", {"a": "1"}),
        ('a="x y"', {"a": "x y"}),
        ('a="', {"a": '"'}),
        ("a=x=y==", {"a": "x=y=="}),
        ("a=", {"a": ""}),
        ("broken; a=1", {"a": "1"}),
        ("=nameless; a=1", {"a": "1"}),
        ('{"json": [1]}; a=1; é=2', {"a": "1", "é": "2"}),
        ("", {}),
        (";;; ;", {}),
    ],
)
def test_cookies(header: str, expected: dict[str, str]) -> None:
    assert read_cookies(header) == expected


@given(st.lists(st.text(st.characters(exclude_characters=";", max_codepoint=255))), st.integers(0, 5))
def test_a_malformed_cookie_loses_no_other(others: list[str], place: int) -> None:
    others = [other for other in others if other.partition("=")[0].strip() != "ark_session_id"]
    others.insert(place, " ark_session_id=1234 ")
    assert read_cookies(";".join(others))["ark_session_id"] == "1234"


class Client:
    """A client that sends a body: bytes are a message, None is a disconnect, a number a pause in seconds."""

    def __init__(self, *messages: bytes | float | None, ends: bool = True) -> None:
        self._messages = list(messages)
        self._ends = ends
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        while self._messages:
            message = self._messages.pop(0)
            if message is None:
                return {"type": "http.disconnect"}
            if isinstance(message, bytes):
                self.taken += 1
                return {"type": "http.request", "body": message, "more_body": bool(self._messages) or not self._ends}
            await anyio.sleep(message)
        return await anyio.sleep_forever()

    def read(
        self, how: str, *, declared: str | None = None, limit: int = 10, piece: float = 5.0, total: float = 5.0
    ) -> bytes:
        headers = {} if declared is None else {b"content-length": declared.encode()}

        async def run() -> bytes:
            with anyio.fail_after(60), anyio.CancelScope() as scope:
                times = {
                    "expire_at": partial(setattr, scope, "deadline"),
                    "chunk_timeout": piece,
                    "total_timeout": total,
                }
                body = Body(self.receive, headers, limit=limit, **times)
                try:
                    if how == "whole":
                        return await body.read()
                    return b"".join([piece async for piece in body.chunks()])
                finally:
                    assert scope.cancel_called or scope.deadline == math.inf
            raise RequestTimeout("expired")

        return anyio.run(run)


both = pytest.mark.parametrize("how", ["whole", "in pieces"])


@both
def test_a_body_of_several_pieces(how: str) -> None:
    assert Client(b"one", b"", b"two").read(how) == b"onetwo"
    assert Client(b"").read(how) == b""


@both
def test_a_body_of_exactly_the_limit(how: str) -> None:
    assert Client(b"12345", b"67890").read(how, declared="10") == b"1234567890"


@both
def test_a_declared_length_over_the_limit_is_refused_unread(how: str) -> None:
    body = Client(b"12345678901")
    for declared in ("11", "1" * 400):
        with pytest.raises(BodyTooLarge, match="10 bytes"):
            body.read(how, declared=declared)
    assert body.taken == 0


@both
@pytest.mark.parametrize("declared", ["5", "0", "-1", "many", "10", "1e9", "", None])
def test_a_body_is_counted_whatever_was_declared(how: str, declared: str | None) -> None:
    body = Client(b"1234567890", b"1", b"never read")
    with pytest.raises(BodyTooLarge):
        body.read(how, declared=declared)
    assert body.taken == 2


@both
@given(st.lists(st.binary(max_size=6), min_size=1, max_size=8), st.integers(1, 30))
def test_a_body_is_read_whole_or_refused(how: str, pieces: list[bytes], limit: int) -> None:
    whole = b"".join(pieces)
    body = Client(*pieces)
    if len(whole) <= limit:
        assert body.read(how, limit=limit) == whole
    else:
        with pytest.raises(BodyTooLarge):
            body.read(how, limit=limit)


@both
def test_a_pause_between_pieces_is_bounded(how: str) -> None:
    with pytest.raises(RequestTimeout):
        Client(b"1", 5.0, b"2").read(how, piece=0.02)
    assert Client(0.05, b"1", 0.05, b"2").read(how, piece=1.0) == b"12"


@both
def test_the_time_for_a_piece_begins_with_each(how: str) -> None:
    assert Client(*[0.25, b"1"] * 6).read(how, piece=1.0) == b"111111"


@both
def test_the_whole_body_is_bounded_in_time(how: str) -> None:
    with pytest.raises(RequestTimeout):
        Client(*[0.03, b"1"] * 9).read(how, total=0.1)


@both
def test_a_client_that_leaves_in_its_body(how: str) -> None:
    with pytest.raises(ClientDisconnect):
        Client(b"1", None).read(how)
