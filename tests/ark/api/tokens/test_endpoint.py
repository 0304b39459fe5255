"""POST /tokenize and /detokenize, with a tokenizer of bytes."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, running

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hello"}]
LIMIT = 4096


async def post(client: Client, route: str, **fields: Any) -> Response:
    return await client.request("POST", route, json={"model": "echo", **fields})


async def test_a_text_there_and_back() -> None:
    async with running() as client:
        found = (await post(client, "/tokenize", prompt="h\u00e9y")).json()
        again = (await post(client, "/v1/detokenize", tokens=found["tokens"])).json()
    assert found == {"count": 4, "max_model_len": LIMIT, "tokens": list("h\u00e9y".encode())}
    assert again == {"prompt": "h\u00e9y"}


async def test_messages_are_the_prompt_of_their_completion() -> None:
    async with running() as client:
        found = (await post(client, "/tokenize", messages=MESSAGES, return_token_strs=True)).json()
        usage = (await client.chat("hello")).json()["usage"]
    assert found["count"] == len(found["tokens"]) == usage["prompt_tokens"]
    assert "".join(found["token_strs"]) == "user: hello\nassistant: "


async def test_messages_are_as_many_as_a_completion_may_have() -> None:
    async with running(limits={"messages": 2}) as client:
        assert (await post(client, "/tokenize", messages=2 * MESSAGES)).status == 200
        refused = await post(client, "/tokenize", messages=3 * MESSAGES)
    assert (refused.status, refused.error["code"]) == (400, "array_above_max_length")
    assert refused.error["param"] == "messages"


async def test_nothing_is_no_tokens() -> None:
    async with running() as client:
        assert (await post(client, "/tokenize", prompt="")).json()["tokens"] == []
        assert (await post(client, "/detokenize", tokens=[])).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("route", "fields", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, "prompt"),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("/tokenize", {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ("/tokenize", {"prompt": "x" * 2_000_000}, "prompt"),
        ("/tokenize", {"messages": [{"role": "user", "content": "x" * LIMIT}]}, "messages"),
        ("/tokenize", {"prompt": 5}, "prompt"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [257]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": "text"}, "tokens"),
    ],
)
async def test_what_is_wrong_is_named(route: str, fields: dict[str, Any], param: str) -> None:
    async with running() as client:
        reply = await post(client, route, **fields)
    assert (reply.status, reply.error["param"]) == (400, param), reply.text


async def test_a_model_that_has_no_tokens_to_show() -> None:
    words = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}
    async with running(models=[ECHO, words]) as client:
        assert (await post(client, "/tokenize", prompt="a", model="no")).status == 404
        assert (await post(client, "/tokenize", prompt="a", model="words")).error["code"] == "model_not_supported"
