"""ARK inside a Quart application, at /ai. Run it with ``hypercorn mount_quart:app``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from quart import Quart

from ark.app import create_app

ark = create_app()
app = Quart(__name__)


@app.while_serving  # type: ignore[type-var]
async def lifespan() -> AsyncIterator[None]:
    async with ark.lifespan():
        yield


@app.get("/")
async def home() -> tuple[str, dict[str, str]]:
    return "My own page. The API is at /ai/v1.", {"content-type": "text/plain"}


class Mounted:
    """Passes requests below /ai/ to ARK, and all others to Quart."""

    def __init__(self, inner: Callable[..., Awaitable[None]]) -> None:
        self._inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/ai/"):
            await ark({**scope, "root_path": scope.get("root_path", "") + "/ai"}, receive, send)
        else:
            await self._inner(scope, receive, send)


app.asgi_app = Mounted(app.asgi_app)  # type: ignore[method-assign]
