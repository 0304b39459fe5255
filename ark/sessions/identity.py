"""Names of sessions: the ids that clients send, and the cookie that carries ARK's own."""

from __future__ import annotations

import re
import uuid

from ark.config import SessionsConfig
from ark.errors import BadRequest

COOKIE = "ark_session_id"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def new_id() -> str:
    """An id that cannot be guessed."""
    return str(uuid.uuid4())


def parse_id(text: str) -> str | None:
    """The id in lower case, or None when the text is no UUID in its usual 36 characters."""
    lowered = text.lower()
    return lowered if _UUID.match(lowered) else None


def stateful_id(value: str) -> str:
    """The session that ``ark_stateful`` names. Raises BadRequest when it is no UUID."""
    found = parse_id(value)
    if found is None:
        raise BadRequest(
            "ark_stateful is true, false or the UUID of a session, such as '3f2b8c1e-5d47-4a90-b6de-0c9a1f7e2d35'.",
            param="ark_stateful",
            code="invalid_session_id",
        )
    return found


def set_cookie(session_id: str, config: SessionsConfig) -> str:
    """The value of the ``set-cookie`` header that names a session."""
    return _cookie(session_id, int(config.max_age), config)


def clear_cookie(config: SessionsConfig) -> str:
    """The value of the ``set-cookie`` header that makes a client forget its session."""
    return _cookie("", 0, config)


def _cookie(value: str, max_age: int, config: SessionsConfig) -> str:
    domain = "" if config.cookie_domain is None else f"; Domain={config.cookie_domain}"
    flags = "; Secure" * config.cookie_secure + "; HttpOnly" * config.cookie_http_only
    where = f"Path={config.cookie_path}{domain}; SameSite={config.cookie_same_site}"
    return f"{COOKIE}={value}; Max-Age={max_age}; {where}{flags}"
