"""Cross-origin requests: which web pages of other origins a browser lets use the server.

Off until it is configured: then browsers keep the scripts of other origins from reading any response. See the Fetch
standard, https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Origin = Annotated[
    str, Meta(pattern=r"^[a-z][a-z0-9+.-]*://[^/\s,*]+\Z", description="an origin, such as https://chat.example.com")
]


class CORSConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server.cors]``: without the table no page of another origin can use the server."""

    origins: Literal["*"] | tuple[Origin, ...]
    """Origins whose pages may use the server, such as ``https://chat.example.com``, with the port if it is not the
    default; or ``"*"`` for all."""
    credentials: bool = False
    """Let the browser send the session's cookie, which needs named origins. For a page of another site, also set
    ``cookie_same_site = "none"`` and ``cookie_secure`` in ``[sessions]``."""
    max_age: Annotated[int, Meta(ge=0)] = 600
    """Seconds for which a browser may cache the answer to a preflight request."""

    def __post_init__(self) -> None:
        if self.credentials and self.origins == "*":
            raise ValueError("credentials are only for origins that are named: any page could use everyone's session")

    def allows(self, origin: str) -> bool:
        return self.origins == "*" or origin in self.origins


def is_preflight(method: str, headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser asks what a page may do, before it sends the page's own request."""
    return method == "OPTIONS" and b"origin" in headers and b"access-control-request-method" in headers


def response_headers(
    config: CORSConfig, headers: Mapping[bytes, bytes], exposed: Sequence[str]
) -> list[tuple[str, str]]:
    """What a response to a request with these headers tells the browser. Scripts may read the `exposed` headers."""
    # The response to another origin is another one, which caches have to know.
    granted = [] if config.origins == "*" else [("vary", "origin")]
    origin = headers.get(b"origin", b"").decode("latin-1")
    if not origin or not config.allows(origin):
        return granted
    granted.append(("access-control-allow-origin", "*" if config.origins == "*" else origin))
    if config.credentials:
        granted.append(("access-control-allow-credentials", "true"))
    return [*granted, ("access-control-expose-headers", ", ".join(exposed))]


def preflight_headers(config: CORSConfig, headers: Mapping[bytes, bytes], methods: str) -> list[tuple[str, str]]:
    """What the response to a preflight says beside that. All request headers are allowed, for they do no harm."""
    granted = [("access-control-allow-methods", methods), ("access-control-max-age", str(config.max_age))]
    asked = headers.get(b"access-control-request-headers")
    return granted if asked is None else [*granted, ("access-control-allow-headers", asked.decode("latin-1"))]
