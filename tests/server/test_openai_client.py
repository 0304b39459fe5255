"""OpenAI's own client against a real server, with its strict validation as the referee."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from asgi_client import ECHO, is_request_id, make_config
from running import Running, serve

from ark.app import create_app

MODELS = [
    ECHO,
    ECHO | {"name": "slow", "engine": {"tokens_per_second": 50}},
    ECHO | {"name": "busy", "max_queue": 1, "engine": {"prefill_seconds": 5.0}},
    ECHO | {"name": "broken", "backend": "faulty_backend:Faulty", "engine": {"fault": "bug", "when": "middle"}},
    ECHO | {"name": "unopened", "backend": "faulty_backend:BadAtOpening"},
    ECHO | {"name": "small", "context_length": 30},
    ECHO | {"name": "org/thinker", "backend": "faulty_backend:Faulty", "engine": {"reasoning": True}},
]
KEYS = [
    {"name": "all", "sha256": hashlib.sha256(b"sk-all").hexdigest()},
    {"name": "few", "sha256": hashlib.sha256(b"sk-few").hexdigest(), "models": ["slow"]},
]
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    # "unopened" keeps the server from being ready, so it is waited for by hand.
    app = create_app(make_config(models=MODELS, keys=KEYS, limits={"body_bytes": 100_000}))
    with serve(app, ready=False) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with make_client(server) as client:
        yield client


def make_client(server: Running, key: str = "sk-all") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=120, _strict_response_validation=True
    )


def test_a_completion(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="echo", messages=HELLO)
    (choice,) = reply.choices
    assert choice.message.content == "hello"
    assert choice.finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 6
    assert reply.usage.prompt_tokens_details is not None
    assert is_request_id(reply._request_id or "")


def test_every_kind_of_message(client: openai.OpenAI) -> None:
    messages: list[Any] = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "42"},
        {"role": "user", "content": "hello", "name": "someone"},
    ]
    reply = client.chat.completions.create(model="gpt-4o", messages=messages, metadata={"a": "b"}, store=False)
    assert reply.choices[0].message.content == "hello"
    assert reply.model == "gpt-4o"


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="echo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + 6


def test_the_clients_own_stream_helper(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="echo", messages=HELLO) as stream:
        words = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(words) == "hello"
    assert final.choices[0].message.content == "hello"


def test_reasoning(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "<think>why</think>so"}]
    reply = client.chat.completions.create(model="org/thinker", messages=messages)
    message: Any = reply.choices[0].message
    assert (message.content, message.reasoning_content) == ("so", "why")


@pytest.mark.anyio
async def test_the_async_client(server: Running) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="sk-all", max_retries=0, timeout=120, _strict_response_validation=True
    ) as client:
        reply = await client.chat.completions.create(model="echo", messages=HELLO)
        stream = await client.chat.completions.create(model="echo", messages=HELLO, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        models = [model.id async for model in client.models.list()]
    assert reply.choices[0].message.content == text == "hello"
    assert "echo" in models


def test_raw_replies_have_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="echo", messages=HELLO, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-ark-cached-tokens"] == "0"
    assert raw.parse().choices[0].message.content == "hello"
    with client.chat.completions.with_streaming_response.create(model="echo", messages=HELLO, stream=True) as streamed:
        assert streamed.headers["content-type"] == "text/event-stream; charset=utf-8"
        lines = [line for line in streamed.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_models(client: openai.OpenAI, server: Running) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:7] == [model["name"] for model in MODELS]
    assert client.models.retrieve("org/thinker").id == "org/thinker"
    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    with make_client(server, "sk-few") as few:
        assert [model.id for model in few.models.list()] == ["slow"]


def test_a_wrong_key(server: Running) -> None:
    with make_client(server, "sk-wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="echo", messages=HELLO)
    assert caught.value.code == "invalid_api_key"


def test_a_key_that_may_not_use_the_model(server: Running) -> None:
    with make_client(server, "sk-few") as client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="echo", messages=HELLO)


LONG: list[Any] = [{"role": "user", "content": "x" * 200_000}]
OVER: list[Any] = [{"role": "user", "content": "x" * 99}]


@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({"model": "nothing"}, openai.NotFoundError, ("model_not_found", "model")),
        ({"temperature": 9}, openai.BadRequestError, ("invalid_value", "temperature")),
        ({"max_tokens": "x"}, openai.BadRequestError, ("invalid_type", "max_tokens")),
        ({"logit_bias": {"5": 1}}, openai.BadRequestError, ("unsupported_parameter", "logit_bias")),
        ({"messages": []}, openai.BadRequestError, ("invalid_value", "messages")),
        ({"model": "small", "messages": OVER}, openai.BadRequestError, ("context_length_exceeded", "messages")),
        ({"model": "unopened"}, openai.InternalServerError, ("model_failed", None)),
        ({"messages": LONG}, openai.APIStatusError, ("request_too_large", None)),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_has_its_class(
    client: openai.OpenAI, fields: Any, kind: type[openai.APIStatusError], says: tuple[str, str | None], stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**{"model": "echo", "messages": HELLO, "stream": stream, **fields})
    error = caught.value
    assert (error.code, error.param) == says
    assert is_request_id(error.request_id or "")
    assert error.type in {"invalid_request_error", "server_error"}


def test_a_full_queue(client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="busy", messages=HELLO, stream=True) as first:
        next(first)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="busy", messages=HELLO)
    assert caught.value.response.headers["retry-after-ms"] == "1000"


def test_an_unexpected_error_in_a_whole_reply(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="broken", messages=HELLO)
    assert caught.value.status_code == 500
    assert caught.value.request_id in caught.value.message
    assert "internals" not in caught.value.message


def test_an_error_inside_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model="broken", messages=HELLO, stream=True)
    words: list[str] = []
    with pytest.raises(openai.APIError, match="unexpected error"):
        words.extend(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_stream_that_is_closed_in_the_middle_stops_its_job(client: openai.OpenAI, server: Running) -> None:
    before = server.status(1).jobs_cancelled
    messages: list[Any] = [{"role": "user", "content": "hello " * 100}]
    with client.chat.completions.create(model="slow", messages=messages, stream=True) as stream:
        for _ in range(3):
            next(stream)
    status = server.settle(model=1)
    assert status.jobs_cancelled == before + 1


def test_a_client_that_gives_up_waiting_stops_its_job(client: openai.OpenAI, server: Running) -> None:
    before = server.status(1).jobs_cancelled
    messages: list[Any] = [{"role": "user", "content": "hello " * 100}]
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(model="slow", messages=messages, timeout=0.3)
    assert server.settle(model=1).jobs_cancelled == before + 1


def test_stored_completions(client: openai.OpenAI, server: Running) -> None:
    made = []
    for number in range(3):
        metadata = {"number": str(number), "of": "this & test"}
        with client.chat.completions.create(
            model="echo", messages=HELLO, store=True, metadata=metadata, stream=True
        ) as stream:
            made.append([chunk.id for chunk in stream][-1])
    listed = client.chat.completions.list(limit=1, model="echo", metadata={"of": "this & test"})
    assert [one.id for one in listed] == made
    assert [one.id for one in client.chat.completions.list(order="desc", metadata={"of": "this & test"})] == made[::-1]
    (found,) = client.chat.completions.list(metadata={"number": "1"})
    assert found == client.chat.completions.retrieve(made[1])
    assert found.choices[0].message.content == "hello"
    assert client.chat.completions.update(made[1], metadata={"new": "x"}).metadata == {"new": "x"}
    # The client's own type of these messages has an assistant's role alone.
    lenient = client.with_options(_extra_kwargs={"_strict_response_validation": False})
    (message,) = lenient.chat.completions.messages.list(made[1])
    assert (message.id, message.role, message.content) == (f"{made[1]}-0", "user", "hello")
    with make_client(server, "sk-few") as other, pytest.raises(openai.NotFoundError):
        other.chat.completions.retrieve(made[1])
    for number in made:
        assert client.chat.completions.delete(number).deleted
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.retrieve(made[1])
    assert refused.value.code == "completion_not_found"
