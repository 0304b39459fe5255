"""The routes, below an optional ``/v1``. `tools.openapi` describes them for ``/openapi.json``."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from ark.api.audio import endpoint as audio
from ark.api.chat import endpoint as chat
from ark.api.chat import stored
from ark.api.completions import endpoint as completions
from ark.api.conversations import endpoint as conversations
from ark.api.embeddings import endpoint as embeddings
from ark.api.error_body import encode_error
from ark.api.messages import endpoint as messages
from ark.api.messages.render import encode_error as messages_error
from ark.api.models import endpoint as models
from ark.api.ops import endpoint as ops
from ark.api.request import Request
from ark.api.rerank import endpoint as rerank
from ark.api.responses import endpoint as responses
from ark.api.sessions import endpoint as sessions
from ark.api.tokens import endpoint as tokens
from ark.errors import APIError, MethodNotAllowed, NotFound
from ark.http.request import Reads
from ark.http.response import EventStream, Response
from ark.services import Services

FILES = frozenset({"file"})
"""Fields of forms that are files."""

EXPOSED = [
    *(
        "x-request-id",
        "x-ark-session",
        "x-ark-cached-tokens",
        "x-ark-ignored",
        "x-ark-dropped-messages",
        "retry-after",
        "retry-after-ms",
    ),
    *(f"x-ratelimit-{what}-{unit}" for unit in ("requests", "tokens") for what in ("limit", "remaining", "reset")),
]
"""Headers of a response that scripts of other origins may read, beside the few that they always may."""


class Route(msgspec.Struct, frozen=True):
    """What happens to a request."""

    endpoint: Callable[[Request, Services], Awaitable[Response | EventStream]]
    reads: Reads = None
    open: bool = False
    """Needs no key."""
    work: bool = False
    """Asks an engine for work, so that the limits of `ark.ops.limits` hold."""
    encode_error: Callable[[APIError], bytes] = encode_error
    """The body of a reply that is an error."""


ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/completions": {"POST": Route(completions.create, reads="json", work=True)},
    "/chat/completions": {
        "POST": Route(chat.create, reads="json", work=True),
        "GET": Route(stored.list_completions),
    },
    "/chat/completions/{completion}": {
        "GET": Route(stored.retrieve),
        "POST": Route(stored.update, reads="json"),
        "DELETE": Route(stored.delete),
    },
    "/chat/completions/{completion}/messages": {"GET": Route(stored.list_messages)},
    "/responses": {"POST": Route(responses.create, reads="json", work=True)},
    "/responses/compact": {"POST": Route(responses.compact, reads="json", work=True)},
    "/responses/input_tokens": {"POST": Route(responses.count_input_tokens, reads="json", work=True)},
    "/responses/{response}": {"GET": Route(responses.retrieve), "DELETE": Route(responses.delete)},
    "/responses/{response}/cancel": {"POST": Route(responses.cancel)},
    "/responses/{response}/input_items": {"GET": Route(responses.list_input_items)},
    "/conversations": {"POST": Route(conversations.create, reads="json")},
    "/conversations/{conversation}": {
        "GET": Route(conversations.retrieve),
        "POST": Route(conversations.update, reads="json"),
        "DELETE": Route(conversations.delete),
    },
    "/conversations/{conversation}/items": {
        "GET": Route(conversations.list_items),
        "POST": Route(conversations.add_items, reads="json"),
    },
    "/conversations/{conversation}/items/{item}": {
        "GET": Route(conversations.retrieve_item),
        "DELETE": Route(conversations.delete_item),
    },
    "/embeddings": {"POST": Route(embeddings.create, reads="json", work=True)},
    "/rerank": {"POST": Route(rerank.rerank, reads="json", work=True)},
    "/score": {"POST": Route(rerank.score, reads="json", work=True)},
    "/audio/transcriptions": {"POST": Route(audio.transcribe, reads="form", work=True)},
    "/audio/translations": {"POST": Route(audio.translate, reads="form", work=True)},
    "/tokenize": {"POST": Route(tokens.tokenize, reads="json", work=True)},
    "/detokenize": {"POST": Route(tokens.detokenize, reads="json", work=True)},
    "/messages": {"POST": Route(messages.create, reads="json", work=True, encode_error=messages_error)},
    "/messages/count_tokens": {
        "POST": Route(messages.count_tokens, reads="json", work=True, encode_error=messages_error)
    },
    "/models": {"GET": Route(models.list_models)},
    "/models/{model}": {"GET": Route(models.get_model)},
    "/sessions": {"GET": Route(sessions.list_sessions)},
    "/sessions/{session}": {"GET": Route(sessions.get_session), "DELETE": Route(sessions.delete_session)},
    "/metrics": {"GET": Route(ops.metrics)},
    "/health": {"GET": Route(ops.health, open=True)},
    "/ready": {"GET": Route(ops.ready, open=True)},
    "/openapi.json": {"GET": Route(ops.openapi, open=True)},
}
"""Path to method to route. What stands in braces takes all that is there; the longer path comes first."""

PAGE = Route(ops.page, open=True)
"""At ``/`` alone, and no part of the API."""

PREFLIGHT = Route(ops.preflight, open=True)
"""What browsers ask, on every path."""

_EXACT = {path: methods for path, methods in ROUTES.items() if "{" not in path}
_EXACT |= {"/": {"GET": PAGE}, "/v1": {"GET": Route(ops.index, open=True)}}
# Cohere's clients have the version in the path.
_EXACT["/v2/rerank"] = ROUTES["/rerank"]
_PATTERNS = [
    (re.compile(re.sub(r"\{\w+\}", "(.+)", path)), path)
    for path in sorted(ROUTES, key=len, reverse=True)
    if "{" in path
]


def match(path: str, method: str) -> tuple[Route, str, tuple[str, str]]:
    """The route of a path; the path as metrics and traces name it, with ``{id}`` where the route's has braces; and what
    the path has in the place of the first ones and the second ones. Raises NotFound and MethodNotAllowed."""
    inner = path.removeprefix("/v1") if path.startswith("/v1/") else path
    methods, template, params = _EXACT.get(inner), inner, ("", "")
    if methods is None:
        for pattern, route_path in _PATTERNS:
            if found := pattern.fullmatch(inner):
                methods, template = ROUTES[route_path], re.sub(r"\{\w+\}", "{id}", route_path)
                params = (found[1], found[2] if pattern.groups > 1 else "")
                break
    if methods is None:
        raise NotFound(f"There is nothing at {path}.", code="unknown_url")
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed(", ".join([*methods, "HEAD"] if "GET" in methods else methods))
    return route, template, params
