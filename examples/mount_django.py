"""ARK beside Django's ASGI application, at /ai. Run it with ``hypercorn mount_django:application``.

A Django project already has the first part: ``asgi.py`` and the settings.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

from ark.app import create_app

Message = MutableMapping[str, Any]

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="an example has no secrets")


def home(request: HttpRequest) -> HttpResponse:
    return HttpResponse("My own page. The API is at /ai/v1.", content_type="text/plain")


urlpatterns = [path("", home)]

django = get_asgi_application()
ark = create_app()


async def application(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        # Django does not support the lifespan, so ARK gets all of it.
        await ark(scope, receive, send)
    elif scope["type"] == "http" and scope["path"].startswith("/ai/"):
        await ark({**scope, "root_path": scope.get("root_path", "") + "/ai"}, receive, send)
    else:
        await django(scope, receive, send)
