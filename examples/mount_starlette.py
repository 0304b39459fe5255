"""ARK inside a Starlette application, at /ai. Run it with ``hypercorn mount_starlette:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from ark.app import create_app

ark = create_app()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    # Starlette does not forward the lifespan to the applications that it mounts.
    async with ark.lifespan():
        yield


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("My own page. The API is at /ai/v1.")


app = Starlette(routes=[Route("/", home), Mount("/ai", app=ark)], lifespan=lifespan)
