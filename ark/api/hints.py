"""By what a request's conversation may be found, beside the cookie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ark.api.request import Request
from ark.chat.turn import TurnRequest
from ark.sessions.service import Hints

NAMES = (
    "x-session-id",
    "session-id",
    "session_id",
    "thread-id",
    "x-session-affinity",
    "x-claude-code-session-id",
)
"""Headers in which agents send a name of the session."""

_NAME_LENGTH = 1024


def read_hints(
    request: Request, asked: TurnRequest, model: str, *, cache_key: str | None, metadata: Mapping[str, Any] | None
) -> Hints:
    """`model` is the served name, `cache_key` the body's ``prompt_cache_key``."""
    values = [*(request.header(name) for name in NAMES), cache_key, (metadata or {}).get("session_id")]
    names = (value for value in values if isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH)
    return Hints(
        model=model,
        messages=asked.messages,
        tools=[] if asked.tools is None else [tool.for_template() for tool in asked.tools.tools],
        name=next(names, None),
        address=request.address,
        size=asked.size,
    )
