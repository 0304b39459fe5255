"""Conversations that are too long: ``truncation: auto``, and a summary in their place."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, backend_of, running
from openresponses_types.types import CompactResource

pytestmark = pytest.mark.anyio

SMALL = ECHO | {"backend": "faulty_backend:Faulty", "context_length": 200}
KEYS = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]


async def post(client: Client, input: Any, path: str = "", headers: Any = (), **fields: Any) -> Response:
    return await client.request(
        "POST", f"/v1/responses{path}", json={"model": "echo", "input": input, **fields}, headers=headers
    )


def prompt_of(client: Client) -> str:
    return bytes(token for token in backend_of(client).jobs[-1].prompt if token < 256).decode()


def history(turns: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{"role": "developer", "content": "be"}]
    for turn in range(turns):
        items += [{"role": "user", "content": f"question {turn}"}, {"role": "assistant", "content": f"answer {turn}"}]
    return [*items, {"role": "user", "content": "last"}]


async def test_whole_turns_are_left_out_of_the_middle() -> None:
    async with running(models=[SMALL]) as client:
        refused = await post(client, history(10))
        reply = await post(client, history(10), truncation="auto")
        prompt = prompt_of(client)
        short = await post(client, history(1), truncation="auto")
        huge = await post(client, [{"role": "user", "content": "x" * 300}], truncation="auto")
    assert (refused.status, refused.error["code"]) == (400, "context_length_exceeded")
    assert reply.status == 200
    assert prompt.startswith("system: be\nuser: question 0\nassistant: answer 0\nuser: question ")
    assert prompt.endswith("user: question 9\nassistant: answer 9\nuser: last\nassistant: ")
    left = prompt.count("question")
    assert int(reply.headers["x-ark-dropped-messages"]) == 2 * (10 - left)
    assert reply.json()["truncation"] == "auto"
    assert "x-ark-dropped-messages" not in short.headers
    assert (huge.status, huge.error["code"]) == (400, "context_length_exceeded")


async def test_replies_that_are_left_keep_their_tokens() -> None:
    """Of a chain by id, with reasoning that the template would drop."""
    model = SMALL | {"context_length": 300, "engine": {"reasoning": True}}
    async with running(models=[model]) as client:
        before = None
        for turn in range(12):
            reply = await post(
                client,
                f"<think>t{turn}</think>\n\nsay {turn}",
                previous_response_id=before,
                truncation="auto",
                max_output_tokens=40,
            )
            assert reply.status == 200, reply.text
            before = reply.json()["id"]
        prompt = prompt_of(client)
    assert int(reply.headers["x-ark-dropped-messages"]) > 0
    assert prompt.startswith("user: <think>t0</think>\n\nsay 0\nassistant: <think>t0</think>\n\nsay 0\n")
    assert "assistant: <think>t10</think>\n\nsay 10\nuser: <think>t11</think>" in prompt


async def test_a_summary_takes_the_place_of_what_came_before() -> None:
    ann, bob = ([("authorization", f"Bearer {name}")] for name in ("ann", "bob"))
    async with running(models=[SMALL | {"context_length": 2000}], keys=KEYS) as client:
        reply = await post(client, history(2), "/compact", headers=ann)
        body = reply.json()
        CompactResource.model_validate(body)
        assert [item["type"] for item in body["output"]] == ["message"] * 3 + ["compaction"]
        assert "Summarize" in prompt_of(client)
        assert (await client.get(f"/v1/responses/{body['id']}", headers=ann)).status == 404
        assert (await post(client, [*body["output"], {"role": "user", "content": "on"}], headers=ann)).status == 200
        prompt = prompt_of(client)
        assert prompt.startswith("user: question 0\nuser: question 1\nuser: last\nsystem: Summary of the conversation")
        assert prompt.endswith("user: on\nassistant: ")
        refused = await post(client, body["output"], headers=bob)
    assert (refused.status, refused.error["code"]) == (400, "invalid_encrypted_content")


async def test_what_was_asked_before_is_kept_in_a_summary_behind_a_response() -> None:
    async with running(models=[SMALL | {"context_length": 2000}]) as client:
        before = None
        for text in ("one", "two"):
            before = (await post(client, text, previous_response_id=before)).json()["id"]
        body = (await post(client, "three", "/compact", previous_response_id=before)).json()
        said = [item["content"][0]["text"] for item in body["output"][:-1]]
        assert said == ["one", "two", "three"]
        refused = await post(client, "x", "/compact", conversation="conv_1")
    assert (refused.status, refused.error["param"]) == (400, "conversation")
