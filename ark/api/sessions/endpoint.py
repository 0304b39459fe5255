"""GET /sessions, GET and DELETE /sessions/{id}: the caller's own sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ark.api.request import Request, convert
from ark.errors import NotFound, shorten
from ark.http.response import Response
from ark.services import Services
from ark.sessions.session import SessionInfo, parse_session_id


class SessionObject(SessionInfo, frozen=True, kw_only=True):
    """A session. Times are seconds of the Unix clock."""

    object: Literal["session"] = "session"


class SessionList(msgspec.Struct, frozen=True, kw_only=True):
    data: Sequence[SessionObject]
    has_more: bool
    """There are others behind the last one, whose id is the next request's `after`."""
    object: Literal["list"] = "list"


class SessionsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the sessions are listed."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    # Not None: the text "null" would be as nothing sent.
    after: str | UnsetType = UNSET
    """Id of the session behind which the list begins."""


class SessionDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["session.deleted"] = "session.deleted"


async def list_sessions(request: Request, services: Services) -> Response:
    """The caller's sessions in pages, the newest first. Raises BadRequest."""
    query = convert(request.query_fields(), SessionsQuery)
    found = services.sessions.store.describe_all(request.owner, limit=query.limit + 1, after=query.after or None)
    data = [_object(info) for info in found[: query.limit]]
    return Response(body=msgspec.json.encode(SessionList(data=data, has_more=len(found) > query.limit)))


async def get_session(request: Request, services: Services) -> Response:
    """One of the caller's sessions. Raises NotFound, the same for another key's session as for one that never was."""
    info = services.sessions.store.describe(request.owner, _session_id(request.param))
    return Response(body=msgspec.json.encode(_object(info)))


async def delete_session(request: Request, services: Services) -> Response:
    """Delete one of the caller's sessions. A turn in progress is not kept. Raises NotFound."""
    session_id = _session_id(request.param)
    if not services.sessions.delete(request.owner, session_id):
        raise _not_found(session_id)
    await services.sessions.flush()
    return Response(body=msgspec.json.encode(SessionDeleted(id=session_id)))


def _session_id(text: str) -> str:
    found = parse_session_id(text)
    if found is None:
        raise _not_found(text)
    return found


def _not_found(session_id: str) -> NotFound:
    return NotFound(f"There is no session '{shorten(session_id)}'.", code="session_not_found")


def _object(info: SessionInfo) -> SessionObject:
    return SessionObject(**msgspec.structs.asdict(info))
