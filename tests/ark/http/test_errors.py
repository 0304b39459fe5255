"""The errors that a client sees."""

from __future__ import annotations

from ark.errors import APIError


def test_an_error_is_what_its_status_says() -> None:
    """Every error class has a status of its own kind, and all four fields."""
    kinds = [APIError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
        assert 400 <= kind.status < 600
        wanted = {429: "rate_limit_error"}.get(
            kind.status, "invalid_request_error" if kind.status < 500 else "server_error"
        )
        assert kind.type == wanted
