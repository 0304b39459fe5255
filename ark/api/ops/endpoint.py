"""What operators, tools and people look at: /health, /ready, /metrics, /openapi.json, the page at /; and what browsers
ask before they send a page's request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from ark.api.request import Request
from ark.errors import Forbidden, Unavailable, shorten
from ark.http.cors import preflight_headers
from ark.http.response import Response
from ark.ops.metrics import CONTENT_TYPE
from ark.services import Services

METHODS = "GET, HEAD, POST, DELETE"
"""Of all routes."""

_FILES = files(__package__)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The server is alive."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Every model answers."""

    status: Literal["ready"] = "ready"
    models: Mapping[str, Literal["ready"]]
    """Each served model by name."""


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """Where to go on from the root."""

    object: Literal["api"] = "api"
    openapi: str
    models: str


async def health(request: Request, services: Services) -> Response:
    """The server is alive."""
    return Response(body=msgspec.json.encode(Health()))


async def metrics(request: Request, services: Services) -> Response:
    """Counters and gauges for Prometheus."""
    return Response(body=services.metrics.text(), content_type=CONTENT_TYPE)


async def ready(request: Request, services: Services) -> Response:
    """Every model answers. Raises Unavailable while one loads, has failed, or the server drains."""
    if services.draining:
        raise Unavailable("The server is shutting down.", code="draining")
    models = services.registry.models
    states = {served.name: served.state for served in models}
    waiting = [f"{served.name} is {served.description}" for served in models if served.state != "ready"]
    if waiting:
        failed = "failed" in states.values()
        raise Unavailable(f"Not ready: {'; '.join(waiting)}.", code="model_failed" if failed else "model_loading")
    return Response(body=msgspec.json.encode(Ready(models=dict.fromkeys(states, "ready"))))


async def openapi(request: Request, services: Services) -> Response:
    """This description of the API."""
    base = quote(request.root.rstrip("/"))
    servers = [
        {"url": f"{base}/v1", "description": "Where clients of OpenAI's API look."},
        {"url": base or "/", "description": "The same without the prefix."},
    ]
    return Response(body=msgspec.json.encode({"servers": servers, **_document(keys=not services.keys.open)}))


@cache
def _document(*, keys: bool) -> dict[str, Any]:
    """What `tools.openapi` wrote, with the security scheme where the server wants keys."""
    document: dict[str, Any] = msgspec.json.decode(_FILES.joinpath("openapi.json").read_bytes())
    if keys:
        scheme = {"type": "http", "scheme": "bearer", "description": "One of the server's API keys."}
        document["components"]["securitySchemes"] = {"key": scheme}
        document["security"] = [{"key": []}]
    return document


async def index(request: Request, services: Services) -> Response:
    """Where the API describes itself."""
    base = f"{request.root.rstrip('/')}/v1"
    return Response(body=msgspec.json.encode(Index(openapi=f"{base}/openapi.json", models=f"{base}/models")))


async def page(request: Request, services: Services) -> Response:
    """The page for people, or where it is switched off what `/v1` gives."""
    if not services.config.server.page:
        return await index(request, services)
    document, policy = _page()
    headers = [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ]
    return Response(body=document, content_type=b"text/html; charset=utf-8", headers=headers)


@cache
def _page() -> tuple[bytes, str]:
    """The page, and the content security policy that runs what is in it and nothing else."""
    html, style, script = (_FILES.joinpath(f"page/page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    policy = (
        "default-src 'none'",
        f"script-src '{_hash(script)}'",
        # The colours of a table's cells are set by the script, which this does not concern.
        f"style-src '{_hash(style)}'",
        "connect-src 'self'",
        "media-src blob:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
    return html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode(), "; ".join(policy)


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


async def preflight(request: Request, services: Services) -> Response:
    """What a page of another origin may do here. Raises Forbidden for an origin that may do nothing."""
    cors, origin = services.config.server.cors, request.header("origin") or ""
    if cors is None or not cors.allows(origin):
        raise Forbidden(f"Pages of {shorten(origin)} may not use this server.", code="origin_not_allowed")
    return Response(body=b"", content_type=b"text/plain", headers=preflight_headers(cors, request.headers, METHODS))
