"""Real servers with the embedded models, for the calls of ark-conformance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from running import serve

from ark.app import Ark, create_app
from ark.asgi import Receive, Scope, Send
from ark.config import Config, KeyConfig, default_models
from ark.sessions.config import SessionsConfig
from ark_conformance.clients import Server
from ark_conformance.target import Target

OWN, OTHER = "sk-own", "sk-other"
PREFIX = "/some/where"


class Mounted(Ark):
    """ARK below a path of a parent application, which has nothing else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"].startswith(f"{PREFIX}/"):
            await super().__call__({**scope, "root_path": PREFIX}, receive, send)
        else:
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b"the parent", "more_body": False})


def make_config(**fields: Any) -> Config:
    """Two keys, and sessions that wait but shortly for another turn of their own."""
    keys = tuple(
        KeyConfig(name=name, sha256=hashlib.sha256(key.encode()).hexdigest())
        for name, key in (("own", OWN), ("other", OTHER))
    )
    return Config(keys=keys, sessions=SessionsConfig(busy_wait=0.2), **fields)


def ask(url: str) -> Target:
    return Target.ask(Server(base_url=f"{url}/v1", api_key=OWN, other_key=OTHER))


@pytest.fixture(scope="session")
def ark_target() -> Iterator[Target]:
    """ARK as it comes, with keys."""
    with serve(create_app(make_config())) as server:
        yield ask(server.url)


@pytest.fixture(scope="module")
def mounted_target() -> Iterator[Target]:
    with serve(Mounted(make_config())) as server:
        yield ask(server.url + PREFIX)


@pytest.fixture(scope="module")
def document_target() -> Iterator[Target]:
    """ARK narrowed to its founding document."""
    models = tuple(
        msgspec.structs.replace(model, capabilities="document") if model.task == "chat" else model
        for model in default_models()
    )
    with serve(create_app(make_config(models=models))) as server:
        yield ask(server.url)
