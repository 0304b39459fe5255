"""What endpoints get: an HTTP request with its API key, its place among the running ones, and its record."""

from __future__ import annotations

from ark.config import KeyConfig
from ark.http import request
from ark.ops.limits import Ticket
from ark.ops.record import Record


class Request(request.Request, frozen=True, kw_only=True):
    """An admitted request."""

    record: Record
    """What becomes of the request."""
    key: KeyConfig | None = None
    """The API key that was sent; None where the server is open."""
    param: str = ""
    """What the path has after the route's prefix."""
    ticket: Ticket | None = None
    """There on the routes that ask an engine for work."""

    def spend(self, tokens: int) -> None:
        """Count what the response cost against the key's rate. Called once, however the response ended."""
        if self.ticket is not None:
            self.ticket.spend(tokens)

    @property
    def owner(self) -> str:
        """Whose sessions and retained state the request may see; empty where the server is open."""
        return "" if self.key is None else self.key.name
