"""``[sessions]`` of the configuration."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class SessionsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sessions]``"""

    enabled: bool = True
    """False serves every request statelessly: no cookie is set, and ``ark_stateful`` is 400."""
    idle_timeout: Seconds = 1800.0
    """Seconds after its last turn at which a session expires."""
    max_age: Seconds = 86_400.0
    """Seconds after its beginning at which a session expires, however busy; also the cookie's Max-Age."""
    max_sessions: Positive = 10_000
    """Sessions kept at once; one more evicts the least recently used, first those whose cookie never came back."""
    max_bytes: Positive = 256 * 1024 * 1024
    """Bytes of transcript, messages and token ids, kept at once in all sessions; more evicts the same way."""
    max_conversations: Positive = 32
    """Conversations kept in one session; one more drops the session's least recently used."""
    busy_wait: Annotated[float, Meta(ge=0)] = 10.0
    """Seconds a turn waits for another turn of its ``ark_stateful`` session before it gets 409."""
    path: Annotated[str, Meta(min_length=1)] | None = None
    """SQLite file that transcripts are written to when a turn commits, and read from at the start; none by default.

    One server process per file.
    """
    cookie_secure: bool = False
    """Adds ``Secure`` to the cookie: clients return it over HTTPS only."""
    cookie_http_only: bool = False
    """Adds ``HttpOnly`` to the cookie: scripts of a web page cannot read it."""
    cookie_same_site: Literal["lax", "strict", "none"] = "lax"
    """The cookie's ``SameSite``. With ``none`` browsers send it with the requests of other sites' pages as well, and
    want ``cookie_secure``."""
    cookie_path: Annotated[str, Meta(pattern=r"^/[!-:<-~]*\Z", description="a path that begins with /")] = "/"
    """The cookie's ``Path``: clients return it below that only."""
    cookie_domain: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]+\Z", description="the name of a domain")] | None = None
    """The cookie's ``Domain``: clients return it to its subdomains too. Without one, to the host that set it alone."""

    def __post_init__(self) -> None:
        if self.cookie_same_site == "none" and not self.cookie_secure:
            raise ValueError("cookie_same_site is 'none', which browsers take only with cookie_secure")
