"""POST /chat/completions: whole replies, streams, simplified streams."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest
from asgi_client import ECHO, backend_of, chat_request, running
from echo_backend import ByteTokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ark.api.chat import endpoint as chat

pytestmark = pytest.mark.anyio

REASONING = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"reasoning": True}}


async def test_a_whole_reply() -> None:
    async with running() as client:
        reply = await client.chat("hello")
    body = reply.json()
    assert reply.status == 200
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "echo"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hello", "refusal": None},
            "finish_reason": "stop",
            "logprobs": None,
        }
    ]
    usage = body["usage"]
    assert usage["completion_tokens"] == len("hello") + 1
    assert usage["prompt_tokens"] == len("user: hello\nassistant: ")
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert reply.headers["x-ark-cached-tokens"] == "0"


async def test_what_an_engine_finds_later_is_cached_too() -> None:
    """Only the head of a stream is sent before."""
    model = ECHO | {"backend": "faulty_backend:FindsMoreLater"}
    ids = len("user: hello\nassistant: ")
    async with running(models=[model]) as client:
        whole = await client.chat("hello")
        stream = await client.chat("hello", stream=True, stream_options={"include_usage": True})
    assert whole.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == ids - 1
    assert whole.headers["x-ark-cached-tokens"] == str(ids - 1)
    assert whole.headers["x-ark-session"].endswith("; created")
    assert stream.chunks[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == ids - 1
    assert stream.headers["x-ark-cached-tokens"] == "1"


async def test_an_alias_is_the_model_of_the_reply() -> None:
    async with running() as client:
        reply = await client.chat(model="gpt-4o")
        stream = await client.chat(model="gpt-4o", stream=True)
    assert reply.json()["model"] == "gpt-4o"
    assert {chunk["model"] for chunk in stream.chunks} == {"gpt-4o"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["nothing", "Echo", "x" * 100_000])
async def test_an_unknown_model(name: str, stream: bool) -> None:
    async with running() as client:
        reply = await client.chat(model=name, stream=stream)
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"
    assert reply.error["param"] == "model"
    assert "There is: echo," in reply.error["message"]
    assert len(reply.body) < 1000


async def test_the_length_ends_a_reply() -> None:
    async with running() as client:
        reply = await client.chat("hello", max_tokens=2)
        status = backend_of(client).status()
    (choice,) = reply.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("he", "length")
    # A generator that is closed at its last batch has not been cancelled.
    assert (status.jobs_finished, status.jobs_cancelled, status.running) == (1, 0, 0)


@pytest.mark.parametrize("stop", ["l", ["x", "lo", "l"], ["llo", "l"]])
async def test_a_stop_string_ends_a_reply(stop: Any) -> None:
    async with running() as client:
        reply = await client.chat("hello", stop=stop)
        stream = await client.chat("hello", stop=stop, stream=True)
        status = backend_of(client).status()
    (choice,) = reply.json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("he", "stop")
    assert [chunk["choices"][0]["delta"].get("content") for chunk in stream.chunks] == ["", "h", "e", None]
    # The engine is not left to say the rest.
    assert status.running == 0
    assert status.jobs_cancelled == 2


async def test_messages_over_the_context() -> None:
    async with running(models=[ECHO | {"context_length": 40}]) as client:
        over = await client.chat("x" * 40)
        prompt = len("user: \nassistant: ")
        fits = await client.chat("x" * (39 - prompt))
        exact = await client.chat("x" * (40 - prompt), stream=True)
    for reply in (over, exact):
        assert reply.status == 400
        assert reply.error["code"] == "context_length_exceeded"
        assert reply.error["param"] == "messages"
    assert fits.json()["usage"]["total_tokens"] == 40


async def test_a_long_prompt_is_the_same_prompt() -> None:
    """Long text is tokenised in a thread."""
    text = "é" * 20_000
    async with running(models=[ECHO | {"context_length": 100_000}]) as client:
        reply = await client.chat(text)
    assert reply.json()["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("content", ["x" * 100_000, ""])
async def test_a_large_request_does_not_hold_up_the_event_loop(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long, reading the messages and writing the prompt, happens beside it, long text or many messages."""
    threads: dict[str, set[int]] = {"read": set(), "render": set()}

    def noting(name: str, work: Any) -> Any:
        def run(*args: Any, **more: Any) -> Any:
            threads[name].add(threading.get_ident())
            return work(*args, **more)

        return run

    monkeypatch.setattr(chat, "read_history", noting("read", chat.read_history))
    monkeypatch.setattr(ByteTokenizer, "render", noting("render", ByteTokenizer.render))
    messages = [{"role": "user", "content": content}] * (1 if content else 1000)
    async with running(models=[ECHO | {"context_length": 1_000_000}]) as client:
        for found in threads.values():
            found.clear()
        reply = await client.chat(messages=messages, max_tokens=1)
        assert reply.status == 200
        for found in threads.values():
            assert found
            assert threading.get_ident() not in found
            found.clear()
        await client.chat("hello")
        assert threads == {"read": {threading.get_ident()}, "render": {threading.get_ident()}}


async def test_the_order_of_chunks() -> None:
    async with running() as client:
        reply = await client.chat("hé", stream=True)
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["cache-control"] == "no-cache"
    assert "content-length" not in reply.headers
    assert reply.text.endswith("data: [DONE]\n\n")
    assert [event.data for event in reply.events].count("[DONE]") == 1
    deltas = [(chunk["choices"][0]["delta"], chunk["choices"][0]["finish_reason"]) for chunk in reply.chunks]
    assert deltas == [
        ({"role": "assistant", "content": "", "refusal": None}, None),
        ({"content": "h"}, None),
        ({"content": "é"}, None),
        ({}, "stop"),
    ]
    assert len({(chunk["id"], chunk["created"], chunk["object"]) for chunk in reply.chunks}) == 1
    assert reply.chunks[0]["object"] == "chat.completion.chunk"
    assert not any("usage" in chunk for chunk in reply.chunks)


async def test_usage_comes_last_and_is_null_before() -> None:
    async with running() as client:
        whole = await client.chat("hello")
        reply = await client.chat("hello", stream=True, stream_options={"include_usage": True})
    *before, last = reply.chunks
    assert [chunk["usage"] for chunk in before] == [None] * len(before)
    assert before[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"] == whole.json()["usage"]


@pytest.mark.parametrize("usage", [False, None])
async def test_usage_that_was_not_asked_for_is_not_there(usage: bool | None) -> None:
    async with running() as client:
        reply = await client.chat(stream=True, stream_options={"include_usage": usage})
    assert not any("usage" in chunk for chunk in reply.chunks)
    assert all(chunk["choices"] for chunk in reply.chunks)


async def test_an_empty_reply() -> None:
    async with running() as client:
        reply = await client.chat("")
        stream = await client.chat("", stream=True)
        simple = await client.chat("", stream=True, ark_simplified=True)
    assert reply.json()["choices"][0]["message"]["content"] == ""
    assert len(stream.chunks) == 2
    assert len(simple.events) == 2


async def test_a_simplified_stream_byte_for_byte() -> None:
    async with running() as client:
        whole = await client.chat("a é\nb\r\nc")
        reply = await client.chat("a é\nb\r\nc", stream=True, ark_simplified=True)
    text, _, end = reply.text.partition("data: {")
    assert text == ("data: a\n\ndata:  \n\ndata: é\n\ndata: \ndata: \n\ndata: b\n\ndata: \ndata: \n\ndata: c\n\n")
    usage, done = end.split("\n\n", 1)
    assert json.loads("{" + usage) == whole.json()["usage"]
    assert done == "data: [DONE]\n\n"
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("ab \r\n\u2028:é{", max_size=12))
async def test_the_text_of_a_simplified_stream_is_the_replys_text(text: str) -> None:
    """A carriage return is a line break to server-sent events, and arrives as a line feed."""
    content = f"{text}." if text else "."
    async with running() as client:
        reply = await client.chat(content, stream=True, ark_simplified=True)
    *words, _, done = reply.events
    assert done.data == "[DONE]"
    assert "".join(word.data for word in words) == content.replace("\r\n", "\n").replace("\r", "\n")


async def test_simplified_without_a_stream_changes_nothing() -> None:
    async with running() as client:
        reply = await client.chat("hello", ark_simplified=True)
        usage = await client.chat("hello", ark_simplified=True, stream=True, stream_options={"include_usage": True})
    assert reply.json()["choices"][0]["message"]["content"] == "hello"
    assert usage.events[-1].data == "[DONE]"


async def test_reasoning_is_apart_from_the_answer() -> None:
    text = "<think>why</think>so"
    async with running(models=[REASONING]) as client:
        whole = await client.chat(text)
        stream = await client.chat(text, stream=True)
        simple = await client.chat(text, stream=True, ark_simplified=True)
        plain = await client.chat("so")
    message = whole.json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("why", "so")
    assert whole.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    deltas = [chunk["choices"][0]["delta"] for chunk in stream.chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "why"
    assert "".join(delta.get("content", "") for delta in deltas) == "so"
    assert [event.data for event in simple.events][:-2] == ["s", "o"]
    assert "reasoning_content" not in plain.json()["choices"][0]["message"]


async def test_many_requests_at_once_do_not_mix() -> None:
    from anyio import create_task_group

    replies: dict[int, str] = {}

    async with running(models=[ECHO | {"engine": {"tokens_per_second": 500}}]) as client:

        async def ask(number: int) -> None:
            reply = await client.chat(f"number {number}", stream=True)
            replies[number] = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in reply.chunks)

        async with create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, number)
    assert replies == {number: f"number {number}" for number in range(30)}


async def test_a_full_queue_is_429() -> None:
    app = running(models=[ECHO | {"max_queue": 1, "engine": {"prefill_seconds": 10.0}}])
    async with app as client, client.open("POST", "/v1/chat/completions", **chat_request(stream=True)) as first:
        await first.until(1)
        second = await client.chat(stream=True)
        first.disconnect()
    assert second.status == 429
    assert second.error["type"] == "rate_limit_error"
    assert int(second.headers["retry-after"]) >= 1


async def test_a_reply_is_logged_with_its_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with running() as client:
        reply = await client.chat("hello", max_tokens=3, stream=True)
        await client.chat("hello", temperature=3)
    fields = next(record.fields for record in caplog.records if record.message == "request")
    assert fields["request_id"] == reply.headers["x-request-id"]
    assert (fields["model"], fields["completion_tokens"], fields["finish_reason"]) == ("echo", 3, "length")


async def test_a_reply_that_was_left_is_logged_as_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = running(models=[ECHO | {"engine": {"tokens_per_second": 500}}])
    body = chat_request("hello " * 50, stream=True)
    async with app as client, client.open("POST", "/v1/chat/completions", **body) as request:
        await request.until(5)
        request.disconnect()
    (record,) = [record for record in caplog.records if record.message == "client disconnected"]
    assert record.fields["finish_reason"] == "cancelled"
    assert record.fields["completion_tokens"] >= 3


async def test_a_custom_tool_is_called_with_text() -> None:
    """Whole, in a stream, and in a later history."""
    model = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}, "tool_format": "hermes"}
    said = '<tool_call>\n{"name": "run", "arguments": {"input": "print(\\"\\u00e9\\")"}}\n</tool_call>'
    tools = [{"type": "custom", "custom": {"name": "run"}}]
    async with running(models=[model]) as client:
        (call,) = (await client.chat(said, tools=tools)).json()["choices"][0]["message"]["tool_calls"]
        chunks = (await client.chat(said, tools=tools, stream=True)).chunks
        history = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "b"},
        ]
        assert (await client.chat(messages=history, tools=tools)).status == 200
        broken = [{"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]}]
        refused = await client.chat(messages=broken, tools=tools)
    assert call == {"id": call["id"], "type": "custom", "custom": {"name": "run", "input": 'print("é")'}}
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert (deltas[0]["type"], deltas[0]["custom"]["name"]) == ("custom", "run")
    assert "".join(delta["custom"]["input"] for delta in deltas) == 'print("é")'
    assert refused.error["param"] == "messages[0].tool_calls[0].custom"
