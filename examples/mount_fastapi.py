"""ARK inside a FastAPI application, at /ai. Run it with ``hypercorn mount_fastapi:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from ark.app import create_app

ark = create_app()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # FastAPI does not forward the lifespan to the applications that it mounts.
    async with ark.lifespan():
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/ai", ark)


@app.get("/", response_class=PlainTextResponse)
async def home() -> str:
    return "My own page. The API is at /ai/v1."
