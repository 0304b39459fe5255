"""What operators, tools and people look at: /health, /ready, /metrics, /openapi.json, the page at /; and what browsers
ask before they send a page's request."""

from __future__ import annotations

import anyio.to_thread
import msgspec

from ark.api.ops.schema import Health, Ready
from ark.api.request import Request
from ark.errors import Forbidden, NotFound, Unavailable, shorten
from ark.http.cors import preflight_headers
from ark.http.response import Response
from ark.ops.metrics import CONTENT_TYPE
from ark.services import Services

_encoder = msgspec.json.Encoder()


async def health(request: Request, services: Services) -> Response:
    """The server is alive."""
    return Response(body=_encoder.encode(Health()))


async def metrics(request: Request, services: Services) -> Response:
    """Counters and gauges for Prometheus."""
    return Response(body=services.metrics.text(), content_type=CONTENT_TYPE)


async def ready(request: Request, services: Services) -> Response:
    """Every model answers. Raises Unavailable while one loads, has failed, or the server drains."""
    if services.draining:
        raise Unavailable("The server is shutting down.", code="draining")
    states = {served.name: served.state for served in services.registry.models}
    waiting = [f"{name} is {state}" for name, state in states.items() if state != "ready"]
    if waiting:
        failed = "failed" in states.values()
        raise Unavailable(f"Not ready: {', '.join(waiting)}.", code="model_failed" if failed else "model_loading")
    return Response(body=_encoder.encode(Ready(models=dict.fromkeys(states, "ready"))))


async def openapi(request: Request, services: Services) -> Response:
    """This description of the API."""
    # Here and not at the top: the document is made, once, from the table of routes, which has this endpoint.
    from ark.openapi import render  # noqa: PLC0415

    # In a thread, because making it takes a tenth of a second.
    return Response(body=await anyio.to_thread.run_sync(lambda: render(request.root, keys=not services.keys.open)))


async def page(request: Request, services: Services) -> Response:
    """The page for people. Raises NotFound where it is switched off."""
    if not services.config.server.page:
        raise NotFound("There is nothing at /.", code="unknown_url")
    # Here and not at the top: a server that nobody looks at never reads it.
    from ark.api.ops.page import page as document  # noqa: PLC0415

    body, policy = document()
    headers = [
        ("content-security-policy", policy),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-cache"),
    ]
    return Response(body=body, content_type=b"text/html; charset=utf-8", headers=headers)


async def preflight(request: Request, services: Services) -> Response:
    """What a page of another origin may do here. Raises Forbidden for an origin that may do nothing."""
    cors, origin = services.config.server.cors, request.header("origin") or ""
    if cors is None or not cors.allows(origin):
        raise Forbidden(f"Pages of {shorten(origin)} may not use this server.", code="origin_not_allowed")
    return Response(body=b"", content_type=b"text/plain", headers=preflight_headers(cors, request.headers))
