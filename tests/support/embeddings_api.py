"""What tests of /embeddings send."""

from __future__ import annotations

from typing import Any

from asgi_client import Client, Response

WORDS: dict[str, Any] = {"name": "words", "task": "embedding", "backend": "faulty_embeddings:Faulty"}


def words(**more: Any) -> list[dict[str, Any]]:
    return [WORDS | more]


async def embed(client: Client, given: Any = "hello world", *, headers: Any = (), **fields: Any) -> Response:
    body = {"model": "words", "input": given, **fields}
    return await client.request("POST", "/v1/embeddings", json=body, headers=headers)
