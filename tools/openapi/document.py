"""The document as a whole."""

from __future__ import annotations

from typing import Any

import msgspec

from ark import __version__
from ark.api.error_body import ErrorReply
from ark.api.messages.schema import MessagesError
from ark.api.routes import ROUTES
from tools.openapi.operations import (
    DESCRIPTIONS,
    error_name,
    error_response,
    error_type,
    errors,
    operation,
)
from tools.openapi.parameters import HEADERS, PARAMETERS
from tools.openapi.schemas import Schemas

DESCRIPTION = """An inference server behind OpenAI's API that remembers: sessions keep the model's whole state.

Each path may be read with HEAD where it may be with GET. An unknown path is 404, a method that a path does not have 405
with `allow`; both are error objects, as every error is. A field that is not listed is accepted and has no effect, and
one that is null is as one that was not sent."""


def encode() -> bytes:
    """The document as the package ships it. A line for each level keeps its changes readable."""
    return msgspec.json.format(msgspec.json.encode(document()), indent=1) + b"\n"


def document() -> dict[str, Any]:
    """The document without its servers and its security scheme, which the server adds."""
    routes = [(path, method, route) for path, methods in ROUTES.items() for method, route in methods.items()]
    described = [DESCRIPTIONS[route.endpoint] for _, _, route in routes]
    schemas = Schemas(
        requests=[one.body for one in described if one.body is not None],
        replies=[
            ErrorReply,
            MessagesError,
            *(kind for one in described for kind in one.replies.values() if kind is not None),
        ],
    )
    paths: dict[str, dict[str, Any]] = {path: {} for path in ROUTES}
    for path, method, route in routes:
        paths[path][method.lower()] = operation(path, route, schemas)
    found = {error_name(route, kind): (kind, error_type(route)) for _, _, route in routes for kind in errors(route)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ARK",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {name: error_response(kind, body, schemas) for name, (kind, body) in sorted(found.items())},
            "parameters": PARAMETERS,
            "headers": HEADERS,
        },
    }
