"""Real servers with small models, for the calls of ark-conformance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fixture_models import only_default, with_tiny_chat
from openai_tokenizer import save_openai_tokenizer
from running import serve
from tiny_m3 import save_tiny_m3
from tiny_reranker import save_tiny_reranker
from tiny_whisper import save_tiny_whisper

from ark.app import Ark, create_app
from ark.config import Config, KeyConfig, LimitsConfig, ModelConfig, ServerConfig, SessionsConfig
from ark.http.request import Receive, Scope, Send
from ark_conformance.clients import Server
from ark_conformance.target import Target

OWN, OTHER, LIMITED = "sk-own", "sk-other", "sk-limited"
BODY_TIMEOUT = 1.0
PREFIX = "/some/where"
SESSION_SECONDS = 3.0


class Mounted(Ark):
    """ARK mounted below a path of an application that has nothing else."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"].startswith(f"{PREFIX}/"):
            await super().__call__({**scope, "root_path": PREFIX}, receive, send)
        else:
            await send({"type": "http.response.start", "status": 418, "headers": []})
            await send({"type": "http.response.body", "body": b"the parent", "more_body": False})


def make_config(*, idle_timeout: float = 1800.0, **fields: Any) -> Config:
    """Three keys, and sessions whose turns wait only briefly for each other."""
    keys = (
        make_key("own", OWN),
        make_key("other", OTHER),
        make_key("limited", LIMITED, requests_per_minute=30, concurrent_requests=2),
    )
    return Config(keys=keys, sessions=SessionsConfig(busy_wait=0.2, idle_timeout=idle_timeout), **fields)


def change_chat(engine: dict[str, Any] | None = None, **fields: Any) -> tuple[ModelConfig, ...]:
    """The models of the tests, with changed settings and engine options for the chat model."""
    return tuple(
        msgspec.structs.replace(model, engine=model.engine | (engine or {}), **fields)
        if model.task == "chat"
        else model
        for model in with_tiny_chat()
    )


def make_key(name: str, key: str, **limits: int) -> KeyConfig:
    return KeyConfig(name=name, sha256=hashlib.sha256(key.encode()).hexdigest(), **limits)


def ask(url: str) -> Target:
    return Target.ask(Server(base_url=f"{url}/v1", api_key=OWN, other_key=OTHER))


@pytest.fixture(scope="session")
def ark_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """ARK with keys and otherwise default settings, without the table of OpenAI's tokenizer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path_factory.mktemp("tiktoken")))
        with serve(create_app(make_config(models=with_tiny_chat())), 120) as server:
            yield ask(server.url)


@pytest.fixture
def openai_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of OpenAI's tokenizer, for the servers in this process."""
    save_openai_tokenizer(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def default_chat_target() -> Iterator[Target]:
    """ARK with the chat model that it serves by default."""
    with serve(create_app(make_config(models=only_default("chat").models)), 300) as server:
        yield ask(server.url)


@pytest.fixture(scope="module")
def mounted_target() -> Iterator[Target]:
    with serve(Mounted(make_config(models=with_tiny_chat())), 120) as server:
        yield ask(server.url + PREFIX)


@pytest.fixture(scope="module")
def limited_target() -> Iterator[Target]:
    """ARK with limits that calls reach quickly."""
    models = change_chat(max_queue=8, engine={"max_running": 4})
    limits = LimitsConfig(body_timeout=BODY_TIMEOUT, key_requests_per_minute=100_000, upload_bytes=200_000)
    with serve(create_app(make_config(models=models, limits=limits)), 120) as server:
        keys = {"api_key": OWN, "other_key": OTHER, "limited_key": LIMITED}
        yield Target.ask(Server(base_url=f"{server.url}/v1", **keys), body_timeout=BODY_TIMEOUT)


@pytest.fixture(scope="module")
def lenient_target() -> Iterator[Target]:
    """ARK that drops parameters that its chat model does not honour, and soon forgets sessions.

    One of its models never finishes loading, and one failed to load.
    """
    others = [
        ModelConfig(name="broken", backend="faulty_backend:BadAtOpening"),
        ModelConfig(name="slow", backend="faulty_backend:NeverOpens"),
    ]
    config = make_config(
        models=(*change_chat(capabilities="document"), *others),
        server=ServerConfig(unsupported_parameters="ignore", load_wait=0.1),
        idle_timeout=SESSION_SECONDS,
    )
    with serve(create_app(config), 120, never=[model.name for model in others]) as server:
        yield ask(server.url)


@pytest.fixture(scope="module")
def crowded_target() -> Iterator[Target]:
    """ARK with room for the KV cache of two short conversations."""
    models = change_chat(context_length=512, engine={"kv_bytes": 2 * 2**20})
    with serve(create_app(make_config(models=models[:1])), 120) as server:
        yield ask(server.url)


@pytest.fixture(scope="module")
def other_models_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """ARK with an embedding model that gives three kinds of vectors, a speech model that translates and a reranker,
    all random."""
    m3, whisper = tmp_path_factory.mktemp("m3"), tmp_path_factory.mktemp("whisper")
    reranker = save_tiny_reranker(tmp_path_factory.mktemp("reranker"))
    save_tiny_m3(m3)
    save_tiny_whisper(whisper, languages=("en", "de"))
    engine = {"device": "cpu", "workers": 1, "threads": 1, "beam_size": 1, "max_new_tokens": 6}
    models = (
        ModelConfig(name="m3", task="embedding", path=str(m3)),
        ModelConfig(name="reranker", task="rerank", path=str(reranker)),
        ModelConfig(name="whisper", task="transcription", path=str(whisper), engine=engine),
    )
    with serve(create_app(make_config(models=models)), 120) as server:
        yield ask(server.url)


@pytest.fixture(scope="module")
def restarted_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """ARK that keeps its sessions on disk, and can be ended and started again on the same port."""
    config = make_config(models=change_chat()[:1])
    sessions = msgspec.structs.replace(config.sessions, path=str(tmp_path_factory.mktemp("kept") / "sessions.sqlite"))
    config = msgspec.structs.replace(config, sessions=sessions)
    with ExitStack() as running:
        server = running.enter_context(serve(create_app(config), 120))

        def restart() -> None:
            running.close()
            running.enter_context(serve(create_app(config), 120, port=server.port))

        target = ask(server.url)
        yield msgspec.structs.replace(target, restart=restart)


@pytest.fixture(scope="module")
def document_target() -> Iterator[Target]:
    """ARK restricted to the API of its original specification."""
    with serve(create_app(make_config(models=change_chat(capabilities="document"))), 120) as server:
        yield ask(server.url)
