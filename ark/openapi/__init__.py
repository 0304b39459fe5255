"""The OpenAPI 3.1 document, made from the table of routes and the Structs that read and write JSON."""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote

import msgspec

from ark import __version__
from ark.api.error_body import ErrorReply
from ark.api.routes import ROUTES
from ark.openapi.operations import HEADERS, PARAMETERS, SCHEME, error_response, errors, operation
from ark.openapi.schemas import Schemas

DESCRIPTION = """An inference server behind OpenAI's API that remembers: sessions keep the model's whole state.

Each path may be read with HEAD where it may be with GET. An unknown path is 404, a method that a path does not have 405
with `allow`; both are error objects, as every error is. A field that is not listed is accepted and has no effect, and
one that is null is as one that was not sent."""


def render(root: str, *, keys: bool) -> bytes:
    """The document as JSON, for a server that is mounted at `root` and, if `keys` is set, wants one."""
    base = quote(root.rstrip("/"))
    servers = [
        {"url": f"{base}/v1", "description": "Where clients of OpenAI's API look."},
        {"url": base or "/", "description": "The same without the prefix."},
    ]
    # All but this is the same wherever the server is mounted.
    return b'{"openapi":"3.1.0","servers":' + msgspec.json.encode(servers) + b"," + _rest(keys)[1:]


@cache
def _rest(keys: bool) -> bytes:
    return msgspec.json.encode(document(keys=keys))


def document(*, keys: bool) -> dict[str, Any]:
    """The document without its version and servers. It tells no model, no key and nothing else of a configuration but
    whether requests need a key, as `keys` says."""
    routes = [(path, method, route) for path, methods in ROUTES.items() for method, route in methods.items()]
    schemas = Schemas(
        requests=[kind for _, _, route in routes for kind in (route.body, route.form) if kind is not None],
        replies=[ErrorReply, *(kind for _, _, route in routes for kind in route.replies.values() if kind is not None)],
    )
    paths: dict[str, dict[str, Any]] = {path: {} for path in ROUTES}
    for path, method, route in routes:
        paths[path][method.lower()] = operation(path, route, schemas)
    kinds = {kind.__name__: kind for _, _, route in routes for kind in errors(route)}
    whole: dict[str, Any] = {
        "info": {
            "title": "ARK",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": {name: error_response(kind, schemas) for name, kind in sorted(kinds.items())},
            "parameters": PARAMETERS,
            "headers": HEADERS,
        },
    }
    if keys:
        scheme = {"type": "http", "scheme": "bearer", "description": "One of the server's API keys."}
        whole["components"]["securitySchemes"] = {SCHEME: scheme}
        whole["security"] = [{SCHEME: []}]
    return whole
