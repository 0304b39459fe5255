"""A server with sessions of two keys, and what tests ask of it."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import httpx
from running import Running

from ark.config import Config, KeyConfig, ModelConfig, SessionsConfig

KEYS = ("alice", "bob")


def make_config(path: str, **sessions: Any) -> Config:
    model = ModelConfig(name="tiny", path=path, engine={"dtype": "float32", "threads": 1, "kv_bytes": 200_000_000})
    keys = tuple(KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in KEYS)
    return Config(models=(model,), keys=keys, sessions=SessionsConfig(busy_wait=0.2, **sessions))


def client_of(server: Running, key: str) -> httpx.Client:
    """A client without a cookie jar that fills by itself, so that each test says which cookie it sends."""
    return httpx.Client(base_url=f"{server.url}/v1", headers={"authorization": f"Bearer {key}"}, timeout=60)


def ask(client: httpx.Client, *contents: str, cookie: str | None = None, **more: Any) -> httpx.Response:
    """Messages of alternating roles, the user's first; or `messages` as they are."""
    messages = more.pop("messages", None) or [
        {"role": "assistant" if n % 2 else "user", "content": content} for n, content in enumerate(contents)
    ]
    body = {"model": "tiny", "messages": messages, "max_tokens": 12, "temperature": 0, **more}
    client.cookies.clear()
    headers = {} if cookie is None else {"cookie": f"ark_session_id={cookie}"}
    return client.post("/chat/completions", json=body, headers=headers)


def text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def state(response: httpx.Response) -> tuple[str, str]:
    """The session's id and what became of it."""
    session, _, how = response.headers["x-ark-session"].partition("; ")
    return session, how


def cached(response: httpx.Response) -> int:
    usage = response.json()["usage"]
    count: int = usage["prompt_tokens_details"]["cached_tokens"]
    assert response.headers["x-ark-cached-tokens"] == str(count)
    return count


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def forget_all(server: Running) -> None:
    """Drop every conversation's KV from the engine, as it may do itself at any time."""
    services = server.app.services
    assert services is not None
    served = services.registry.models[0]
    assert served.backend is not None
    cache = served.backend._engine._cache  # type: ignore[attr-defined]
    for session in list(cache._sessions):
        served.backend.release(session)
    for cached in list(cache._idle):
        cache.drop(cached)
    server.settle()


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class running_turn:  # noqa: N801
    """A streamed turn that has begun; the connection is closed when the block ends."""

    def __init__(
        self,
        server: Running,
        *,
        contents: list[str] | None = None,
        cookie: str | None = None,
        max_tokens: int = 3000,
        **more: Any,
    ) -> None:
        self._client = client_of(server, "alice")
        messages = [
            {"role": "assistant" if n % 2 else "user", "content": content}
            for n, content in enumerate(contents or ["running"])
        ]
        body = {"model": "tiny", "messages": messages, "max_tokens": max_tokens, "stream": True, "ignore_eos": True}
        headers = {} if cookie is None else {"cookie": f"ark_session_id={cookie}"}
        self._request = self._client.build_request("POST", "/chat/completions", json=body | more, headers=headers)

    def __enter__(self) -> httpx.Response:
        self._response = self._client.send(self._request, stream=True)
        assert self._response.status_code == 200
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._client.close()
