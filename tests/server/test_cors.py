"""A browser's questions to a real server."""

from __future__ import annotations

import httpx
from asgi_client import make_config
from running import serve

from ark.app import create_app

PAGE = "https://chat.example.com"


def test_a_preflight_and_the_request_behind_it_on_one_connection() -> None:
    app = create_app(make_config(server={"cors": {"origins": [PAGE]}}))
    with serve(app) as server, httpx.Client(base_url=server.url, headers={"origin": PAGE}) as client:
        for _ in range(2):
            asked = client.options("/v1/chat/completions", headers={"access-control-request-method": "POST"})
            body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
            reply = client.post("/v1/chat/completions", json=body)
            assert (asked.status_code, reply.status_code) == (200, 200)
            assert asked.headers["access-control-allow-methods"] == "GET, HEAD, POST, DELETE"
            assert reply.headers["access-control-allow-origin"] == PAGE
            assert reply.json()["choices"][0]["message"]["content"] == "hello"
