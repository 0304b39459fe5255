"""POST /completions, with a backend that repeats what follows ``user: `` in its prompt."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, Response, backend_of, running, until

pytestmark = pytest.mark.anyio

FAULTY = ECHO | {"backend": "faulty_backend:Faulty"}


async def complete(client: Client, prompt: Any = "user: hello", **fields: Any) -> Response:
    return await client.request("POST", "/v1/completions", json={"model": "echo", "prompt": prompt, **fields})


def texts(reply: Response) -> list[str]:
    assert reply.status == 200, reply.text
    return [choice["text"] for choice in reply.json()["choices"]]


async def test_a_whole_completion() -> None:
    async with running() as client:
        reply = await complete(client)
    body = reply.json()
    assert body["id"].startswith("cmpl-")
    assert (body["object"], body["model"]) == ("text_completion", "echo")
    assert body["choices"] == [{"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}]
    usage = body["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len("user: hello"), len("hello") + 1)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    # It has no session: nothing remembers a bare text.
    assert "set-cookie" not in reply.headers


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("user: a", ["a"]),
        (["user: a"], ["a"]),
        (["user: a", "user: b", "user: c"], ["a", "b", "c"]),
        (list(b"user: a"), ["a"]),
        ([list(b"user: a"), list(b"user: bc")], ["a", "bc"]),
    ],
)
async def test_every_form_of_a_prompt(prompt: Any, expected: list[str]) -> None:
    async with running() as client:
        reply = await complete(client, prompt)
    assert texts(reply) == expected
    assert [choice["index"] for choice in reply.json()["choices"]] == list(range(len(expected)))


async def test_sixteen_tokens_by_default() -> None:
    async with running() as client:
        reply = await complete(client, f"user: {'x' * 40}")
        more = await complete(client, f"user: {'x' * 40}", max_tokens=30)
    assert texts(reply) == ["x" * 16]
    assert reply.json()["choices"][0]["finish_reason"] == "length"
    assert texts(more) == ["x" * 30]


async def test_the_prompt_is_sent_back() -> None:
    async with running() as client:
        both = await complete(client, ["user: a", "user: b"], echo=True)
        ids = await complete(client, list(b"user: a"), echo=True)
        alone = await complete(client, echo=True, max_tokens=0)
    assert texts(both) == ["user: aa", "user: bb"]
    assert texts(ids) == ["user: aa"]
    assert texts(alone) == ["user: hello"]
    assert alone.json()["choices"][0]["finish_reason"] == "length"
    assert alone.json()["usage"]["completion_tokens"] == 0


async def test_a_stop_string_ends_it() -> None:
    async with running() as client:
        assert texts(await complete(client, "user: one, two", stop=[", "])) == ["one"]


async def test_chunks() -> None:
    async with running() as client:
        reply = await complete(
            client, ["user: ab", "user: c"], echo=True, stream=True, stream_options={"include_usage": True}
        )
    *chunks, last = reply.chunks
    assert reply.events[-1].data == "[DONE]"
    assert {chunk["id"] for chunk in reply.chunks} == {last["id"]}
    parts: dict[int, str] = {}
    for chunk in chunks:
        (choice,) = chunk["choices"]
        assert chunk["usage"] is None
        parts[choice["index"]] = parts.get(choice["index"], "") + choice["text"]
    assert parts == {0: "user: abab", 1: "user: cc"}
    ends = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert [(end["index"], end["finish_reason"]) for end in ends] == [(0, "stop"), (1, "stop")]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5


async def test_without_the_option_no_chunk_has_usage() -> None:
    async with running() as client:
        reply = await complete(client, stream=True)
    assert all("usage" not in chunk for chunk in reply.chunks)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["user: a", ""]}, "prompt[1]"),
        ({"prompt": ["a", [1]]}, "prompt[1]"),
        ({"prompt": [257]}, "prompt"),
        ({"prompt": [[1], [300]]}, "prompt[1]"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["x"] * 2049}, "prompt"),
        ({"prompt": "x" * 5000}, "prompt"),
        ({"prompt": "x" * 2_000_000}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"best_of": 1, "n": 2}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"logprobs": 1}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"n": 2}, "n"),
        ({"suffix": "x"}, "suffix"),
        ({"suffix": "x", "echo": True}, "suffix"),
        ({"suffix": "x", "prompt": ["a", "b"]}, "suffix"),
        ({"temperature": 3}, "temperature"),
    ],
)
async def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    async with running() as client:
        reply = await complete(client, **({"prompt": "user: a"} | fields))
        assert reply.status == 400
        assert reply.error["param"] == param
        assert texts(await complete(client)) == ["hello"]


async def test_an_unknown_model_and_a_model_of_another_task() -> None:
    words = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}
    async with running(models=[ECHO, words]) as client:
        unknown = await complete(client, model="no")
        other = await complete(client, model="words")
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
    assert (other.status, other.error["param"]) == (400, "model")


@pytest.mark.parametrize("when", ["admission", "prefill", "middle"])
async def test_an_engine_that_fails_fails_the_whole_request(when: str) -> None:
    model = FAULTY | {"engine": {"fault": "engine", "when": when}}
    async with running(models=[model]) as client:
        whole = await complete(client, ["user: abcdef", "user: b"])
        stream = await complete(client, "user: abcdef", stream=True)
    assert (whole.status, whole.error["type"]) == (503, "server_error")
    if when == "middle":
        assert stream.status == 200
        assert json.loads(stream.events[-1].data)["error"]["type"] == "server_error"
    else:
        assert stream.status == 503


async def test_of_many_prompts_a_few_run_at_once() -> None:
    model = FAULTY | {"engine": {"tokens_per_second": 200}}
    async with running(models=[model]) as client:
        backend = backend_of(client)
        most = 0

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, backend.status().running)
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            reply = await complete(client, ["user: ab"] * 40)
            tasks.cancel_scope.cancel()
    assert texts(reply) == ["ab"] * 40
    assert 1 < most <= 16


async def test_a_client_that_leaves_ends_its_jobs() -> None:
    model = FAULTY | {"engine": {"tokens_per_second": 5}}
    async with running(models=[model]) as client:
        backend = backend_of(client)
        for stream in (False, True):
            body = {"model": "echo", "prompt": ["user: abcdef"] * 3, "stream": stream}
            async with client.open("POST", "/v1/completions", json=body) as exchange:
                await until(lambda: backend.status().running > 0)
                exchange.disconnect()
            await until(lambda: not backend.status().running)
        assert backend.status().jobs_finished == 0


async def test_the_times_between_tokens_are_a_prompts_own() -> None:
    async with running() as client:
        assert texts(await complete(client, ["user: abc", "user: def", "user: ghi"])) == ["abc", "def", "ghi"]
        metrics = (await client.get("/metrics")).text
    # Three letters and the end, of each.
    assert 'ark:inter_token_latency_seconds_count{model_name="echo"} 9.0' in metrics
