"""The routes: what ARK answers, and what of it the OpenAPI document says. Both are read from this one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from ark.api.audio import endpoint as audio
from ark.api.audio.schema import (
    TextDelta,
    TextDone,
    Transcription,
    TranscriptionRequest,
    TranslationRequest,
    VerboseTranscription,
)
from ark.api.chat import endpoint as chat
from ark.api.chat.schema import ChatRequest, Chunk, Completion
from ark.api.embeddings import endpoint as embeddings
from ark.api.embeddings.schema import EmbeddingList, EmbeddingRequest
from ark.api.models import endpoint as models
from ark.api.models.schema import Model, ModelList
from ark.api.ops import endpoint as operations
from ark.api.ops.schema import Health, Ready
from ark.api.request import Request
from ark.api.sessions import endpoint as sessions
from ark.api.sessions.schema import SessionDeleted, SessionList, SessionObject
from ark.errors import APIError, Conflict, MethodNotAllowed, NotFound, Unavailable
from ark.http.response import EventStream, Response
from ark.services import Services

Endpoint = Callable[[Request, Services], Awaitable[Response | EventStream]]

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
TEXT = "text/plain"

FILES = frozenset({"file"})
"""Fields of forms that are files."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to a request. Its description is the endpoint's docstring."""

    endpoint: Endpoint
    name: str
    """As the document calls the operation, and generated clients their method."""
    open: bool = False
    """Needs no key."""
    body: type[msgspec.Struct] | None = None
    """Reads a JSON body of this type."""
    form: type[msgspec.Struct] | None = None
    """Reads a form with these fields, and those of `FILES`."""
    work: bool = False
    """Asks an engine for work, so that the limits of `ark.ops.limits` hold."""
    session: bool = False
    """Serves the session of the client's cookie."""
    replies: Mapping[str, Any]
    """Media type to the type of a good reply, of server-sent events to that of an event's data; None for plain text."""
    errors: Sequence[type[APIError]] = ()
    """What it raises beside what the fields above imply: a bad body, a missing key, a limit."""


ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/chat/completions": {
        "POST": Route(
            endpoint=chat.create,
            name="createChatCompletion",
            body=ChatRequest,
            work=True,
            session=True,
            replies={JSON: Completion, EVENT_STREAM: Chunk},
            errors=[NotFound, Conflict],
        )
    },
    "/embeddings": {
        "POST": Route(
            endpoint=embeddings.create,
            name="createEmbedding",
            body=EmbeddingRequest,
            work=True,
            replies={JSON: EmbeddingList},
            errors=[NotFound],
        )
    },
    "/audio/transcriptions": {
        "POST": Route(
            endpoint=audio.transcribe,
            name="createTranscription",
            form=TranscriptionRequest,
            work=True,
            replies={
                JSON: Transcription | VerboseTranscription,
                EVENT_STREAM: TextDelta | TextDone,
                TEXT: None,
            },
            errors=[NotFound],
        )
    },
    "/audio/translations": {
        "POST": Route(
            endpoint=audio.translate,
            name="createTranslation",
            form=TranslationRequest,
            work=True,
            replies={
                JSON: Transcription | VerboseTranscription,
                EVENT_STREAM: TextDelta | TextDone,
                TEXT: None,
            },
            errors=[NotFound],
        )
    },
    "/models": {"GET": Route(endpoint=models.list_models, name="listModels", replies={JSON: ModelList})},
    "/models/{model}": {
        "GET": Route(endpoint=models.get_model, name="retrieveModel", replies={JSON: Model}, errors=[NotFound])
    },
    "/sessions": {"GET": Route(endpoint=sessions.list_sessions, name="listSessions", replies={JSON: SessionList})},
    "/sessions/{session}": {
        "GET": Route(
            endpoint=sessions.get_session, name="retrieveSession", replies={JSON: SessionObject}, errors=[NotFound]
        ),
        "DELETE": Route(
            endpoint=sessions.delete_session, name="deleteSession", replies={JSON: SessionDeleted}, errors=[NotFound]
        ),
    },
    "/metrics": {"GET": Route(endpoint=operations.metrics, name="getMetrics", replies={"text/plain": None})},
    "/health": {"GET": Route(endpoint=operations.health, name="getHealth", open=True, replies={JSON: Health})},
    "/ready": {
        "GET": Route(endpoint=operations.ready, name="getReady", open=True, replies={JSON: Ready}, errors=[Unavailable])
    },
    "/openapi.json": {
        "GET": Route(endpoint=operations.openapi, name="getOpenAPI", open=True, replies={JSON: dict[str, Any]})
    },
}
"""Path to method to route, below an optional ``/v1``. What stands in braces at a path's end takes all that follows."""

PAGE = Route(endpoint=operations.page, name="getPage", open=True, replies={"text/html": None})
"""At ``/`` alone, and no part of the API."""

PREFLIGHT = Route(endpoint=operations.preflight, name="preflight", open=True, replies={"text/plain": None})
"""What browsers ask, on every path."""

_EXACT = {path: methods for path, methods in ROUTES.items() if not path.endswith("}")} | {"/": {"GET": PAGE}}
_PREFIXES = {path.partition("{")[0]: methods for path, methods in ROUTES.items() if path.endswith("}")}


def match(path: str, method: str) -> tuple[Route, str]:
    """The route of a path, and what the path has in place of the braces. Raises NotFound or MethodNotAllowed."""
    inner = path.removeprefix("/v1") if path.startswith("/v1/") else path
    methods, param = _EXACT.get(inner), ""
    if methods is None:
        for prefix, below in _PREFIXES.items():
            if inner.startswith(prefix):
                methods, param = below, inner[len(prefix) :]
    if methods is None:
        raise NotFound(f"There is nothing at {path}.", code="unknown_url")
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed(", ".join([*methods, "HEAD"] if "GET" in methods else methods))
    return route, param
