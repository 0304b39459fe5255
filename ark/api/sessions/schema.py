"""GET and DELETE /sessions: an ARK extension in OpenAI's manner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from ark.sessions.session import SessionInfo


class SessionObject(SessionInfo, frozen=True, kw_only=True):
    """A session. Times are seconds of the Unix clock."""

    object: Literal["session"] = "session"


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    data: Sequence[SessionObject]
    object: Literal["list"] = "list"


class SessionDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["session.deleted"] = "session.deleted"
