"""The parameters and headers of the routes, described once."""

from __future__ import annotations

from ark.sessions.session import COOKIE
from tools.openapi.schemas import Schema

PARAMETERS: dict[str, Schema] = {
    "model": {
        "name": "model",
        "in": "path",
        "required": True,
        "description": "A served name or an alias. Slashes in it may stand as they are.",
        "schema": {"type": "string", "minLength": 1},
    },
    "session": {
        "name": "session",
        "in": "path",
        "required": True,
        "description": "The id of a session of the caller's.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "response": {
        "name": "response",
        "in": "path",
        "required": True,
        "description": "The id of a stored response of the caller's.",
        "schema": {"type": "string", "minLength": 1},
    },
    "completion": {
        "name": "completion",
        "in": "path",
        "required": True,
        "description": "The id of a stored completion of the caller's.",
        "schema": {"type": "string", "minLength": 1},
    },
    "model_of": {
        "name": "model",
        "in": "query",
        "description": "The name that the completions were asked of; any by default.",
        "schema": {"type": "string"},
    },
    "metadata": {
        "name": "metadata",
        "in": "query",
        "description": "Metadata that the completions have, each as `metadata[KEY]=VALUE`.",
        "style": "deepObject",
        "explode": True,
        "schema": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "task": {
        "name": "task",
        "in": "query",
        "description": "What the models are for; all by default.",
        "schema": {"enum": ["chat", "embedding", "rerank", "transcription"]},
    },
    "conversation": {
        "name": "conversation",
        "in": "path",
        "required": True,
        "description": "The id of a conversation of the caller's.",
        "schema": {"type": "string", "minLength": 1},
    },
    "item": {
        "name": "item",
        "in": "path",
        "required": True,
        "description": "The id of an item.",
        "schema": {"type": "string", "minLength": 1},
    },
    "stream": {
        "name": "stream",
        "in": "query",
        "description": "The events of a response in the background, as server-sent events.",
        "schema": {"type": "boolean", "default": False},
    },
    "starting_after": {
        "name": "starting_after",
        "in": "query",
        "description": "With `stream`: the number of the event behind which they begin.",
        "schema": {"type": "integer"},
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "description": "Items of a page.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
    },
    "order": {
        "name": "order",
        "in": "query",
        "description": "The newest first, or the oldest.",
        "schema": {"enum": ["asc", "desc"], "default": "desc"},
    },
    "oldest_first": {
        "name": "order",
        "in": "query",
        "description": "The oldest first, or the newest.",
        "schema": {"enum": ["asc", "desc"], "default": "asc"},
    },
    "after": {
        "name": "after",
        "in": "query",
        "description": "The id of the item that the page begins behind.",
        "schema": {"type": "string"},
    },
    "cookie": {
        "name": COOKIE,
        "in": "cookie",
        "description": "The session to continue, from an earlier reply. An id that is not one of the caller's is "
        "ignored, and the reply sets a new one.",
        "schema": {"type": "string"},
    },
    "request_id": {
        "name": "x-request-id",
        "in": "header",
        "description": "The request's id in the reply and in the server's log: up to 128 letters, digits and any of "
        "`._:-`. Anything else is replaced.",
        "schema": {"type": "string"},
    },
}


STRING: Schema = {"type": "string"}


_COUNT: Schema = {"type": "string", "pattern": "^[0-9]+$"}


RATES = {
    f"x-ratelimit-{what}-{unit}": {
        "description": f"{meaning}, if the key has a limit of {unit} per minute.",
        "schema": STRING if what == "reset" else _COUNT,
    }
    for unit in ("requests", "tokens")
    for what, meaning in (
        ("limit", f"The {unit} allowed per minute"),
        ("remaining", f"The {unit} left"),
        ("reset", "The time until all are available again, such as `1.5s`"),
    )
}


HEADERS: dict[str, Schema] = {
    "x-request-id": {"description": "The request's id in the server's log.", "schema": STRING, "required": True},
    "x-ark-ignored": {
        "description": "Parameters that the model does not honour and that were dropped, if the server is configured "
        "to drop them.",
        "schema": STRING,
    },
    "x-ark-dropped-messages": {
        "description": "Messages that `truncation: auto` has left out of a conversation that was too long.",
        "schema": _COUNT,
    },
    "set-cookie": {
        "description": f"`{COOKIE}`, with which the client's next request continues the session.",
        "schema": STRING,
    },
    "x-ark-session": {
        "description": "The session's id, and whether it was `created`, `continued`, `rewound` or `rebuilt`; or "
        "`stateless`. Behind it `name` or `content`, if the conversation was found by one of them.",
        "schema": STRING,
    },
    "x-ark-cached-tokens": {
        "description": "Cached tokens of the prompt.",
        "schema": _COUNT,
    },
    **RATES,
    "retry-after": {"description": "Seconds after which to try again.", "schema": _COUNT},
    "retry-after-ms": {"description": "The same, in milliseconds.", "schema": _COUNT},
}
