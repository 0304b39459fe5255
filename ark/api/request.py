"""What endpoints get: an HTTP request with its API key and its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ark.config import KeyConfig
from ark.http import request
from ark.ops.requests import RequestRecord
from ark.sessions.response_node import Link


def spend_nothing(tokens: int) -> None:
    """Stands where no rate is counted."""


class Request(request.Request, frozen=True, kw_only=True):
    """An admitted request."""

    record: RequestRecord
    """What becomes of the request."""
    key: KeyConfig | None = None
    """The API key that was sent; None where the server is open."""
    owner: str = ""
    """Whose sessions and retained state the request may see: the key's name, empty where the server is open."""
    address: str = ""
    """The client's, or its proxy's; empty where the server does not know it."""
    param: str = ""
    """What the path has in place of the route's braces."""
    item: str = ""
    """What it has in place of the second ones."""
    link: Link | None = None
    """The WebSocket that it came on."""
    spend: Callable[[int], None] = spend_nothing
    """Counts the tokens that a response cost against the key's rate. Called once, however the response ended."""


def ignored_header(names: Sequence[str]) -> list[tuple[str, str]]:
    """The header that tells a client which of its parameters were dropped; none where there are none."""
    return [("x-ark-ignored", ", ".join(names))] if names else []
