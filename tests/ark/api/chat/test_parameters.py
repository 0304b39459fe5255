"""Parameters that a model honours, and those that it does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_client import ECHO, backend_of, running

from ark.engines.parameters import CHAT, beyond_document

pytestmark = pytest.mark.anyio

CHANGING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 5,
    "min_p": 0.1,
    "seed": 0,
    "frequency_penalty": 0.1,
    "presence_penalty": -2,
    "repetition_penalty": 1.1,
    "logit_bias": {"5": -100},
    "logprobs": True,
    "top_logprobs": 1,
    "n": 2,
    "stop": "x",
    "stop_token_ids": [5],
    "min_tokens": 1,
    "ignore_eos": True,
    "response_format": {"type": "json_object"},
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "reasoning_effort": "high",
    "chat_template_kwargs": {"a": 1},
}
NEUTRAL: dict[str, list[Any]] = {
    "temperature": [1, 1.0, None],
    "top_p": [1, 1.0],
    "top_k": [0, -1],
    "min_p": [0, 0.0],
    "seed": [None],
    "frequency_penalty": [0, -0.0],
    "presence_penalty": [0],
    "repetition_penalty": [1],
    "logit_bias": [{}],
    "logprobs": [False],
    "top_logprobs": [0],
    "n": [1],
    "stop": [[], None],
    "stop_token_ids": [[]],
    "min_tokens": [0],
    "ignore_eos": [False],
    "response_format": [{"type": "text"}],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "reasoning_effort": ["medium"],
    "chat_template_kwargs": [{}],
}
# The echo honours `stop`; what it is asked about here is what a model that honours nothing does.
NARROW = ECHO | {"capabilities": "document"}


def test_every_parameter_is_in_both_tables() -> None:
    names = {name for name, row in CHAT.items() if row.neutral is not None}
    assert set(CHANGING) == names
    assert set(NEUTRAL) == names


@pytest.mark.parametrize("name", CHANGING)
async def test_a_parameter_that_would_change_the_answer_is_refused(name: str) -> None:
    async with running(models=[NARROW]) as client:
        reply = await client.chat(**{name: CHANGING[name]})
    assert reply.status == 400
    assert reply.error["param"] == name
    assert reply.error["code"] == "unsupported_parameter"
    assert "'echo'" in reply.error["message"]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NEUTRAL.items() for value in values])
async def test_a_value_that_changes_nothing_is_accepted(name: str, value: Any) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], name: value}
    async with running(models=[NARROW]) as client:
        reply = await client.request("POST", "/v1/chat/completions", body=json.dumps(body).encode())
    assert reply.status == 200, reply.text
    assert "x-ark-ignored" not in reply.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_ignored_parameters_are_named_and_dropped(stream: bool) -> None:
    fields = {**CHANGING, "stream": stream}
    async with running(models=[NARROW], server={"unsupported_parameters": "ignore"}) as client:
        reply = await client.chat("six x", **fields)
    assert reply.status == 200
    assert reply.headers["x-ark-ignored"].split(", ") == [name for name in CHAT if name in CHANGING]
    text = (
        reply.json()["choices"][0]["message"]["content"]
        if not stream
        else "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in reply.chunks)
    )
    assert text == "six x"


async def test_a_bad_value_is_refused_where_parameters_are_ignored_too() -> None:
    async with running(models=[NARROW], server={"unsupported_parameters": "ignore"}) as client:
        reply = await client.chat(temperature=3)
    assert (reply.status, reply.error["param"]) == (400, "temperature")


async def test_the_documents_surface_is_narrower() -> None:
    both = [ECHO, NARROW | {"name": "narrow"}]
    async with running(models=both) as client:
        wide = await client.chat("one. two", stop=".")
        narrow = await client.chat("one. two", stop=".", model="narrow")
        listed = {
            model["id"]: set(model["ark"]["parameters"]) for model in (await client.get("/models")).json()["data"]
        }
    assert wide.json()["choices"][0]["message"]["content"] == "one"
    assert narrow.error["param"] == "stop"
    assert "stop" in listed["echo"]
    assert not listed["narrow"] & beyond_document(CHAT)


@pytest.mark.parametrize("options", [{}, {"include_usage": True}, {"include_usage": False}, {"include_usage": None}])
@pytest.mark.parametrize("stream", [None, False])
async def test_stream_options_without_a_stream(options: dict[str, Any], stream: bool | None) -> None:
    async with running() as client:
        reply = await client.chat(stream_options=options, stream=stream)
    assert (reply.status, reply.error["param"]) == (400, "stream_options")


async def sampling_of(fields: dict[str, Any], **model: Any) -> Any:
    honours_all = {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}}
    async with running(models=[ECHO | honours_all | model]) as client:
        reply = await client.chat(**fields)
        assert reply.status == 200, reply.text
        (job,) = backend_of(client).jobs
        return job


async def test_sampling_values_reach_the_engine() -> None:
    fields = {"temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.25, "seed": -5}
    sampling = (await sampling_of(fields)).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p, sampling.seed) == (
        0,
        0.5,
        7,
        0.25,
        -5,
    )


async def test_what_a_request_does_not_say_comes_from_the_configuration() -> None:
    defaults = {"temperature": 0.3, "top_k": 9}
    sampling = (await sampling_of({"top_k": 2}, sampling=defaults)).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.3, 2, 1.0)


@pytest.mark.parametrize(("top_k", "expected"), [(-1, 0), (0, 0), (1, 1)])
async def test_a_top_k_that_keeps_all_is_zero(top_k: int, expected: int) -> None:
    assert (await sampling_of({"top_k": top_k})).sampling.top_k == expected


async def test_a_top_p_of_zero_is_within_the_engines_range() -> None:
    assert 0 < (await sampling_of({"top_p": 0})).sampling.top_p < 1e-6


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_tokens": 10**300}, None),
        ({}, None),
    ],
)
async def test_max_tokens_never_pass_the_context(fields: dict[str, Any], expected: int | None) -> None:
    job = await sampling_of(fields, context_length=100)
    assert job.max_tokens == (expected or 100 - len(job.prompt))


@pytest.mark.parametrize(("ignore_eos", "expected"), [(False, {5, 256}), (True, {5})])
async def test_stop_ids(ignore_eos: bool, expected: set[int]) -> None:
    job = await sampling_of({"stop_token_ids": [5, 5], "ignore_eos": ignore_eos})
    assert job.stop_token_ids == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, {5, 256}),
        ({"tools": [{"type": "function", "function": {"name": "look"}}]}, {5, 256}),
        ({"tools": [{"type": "function", "function": {"name": "look"}}], "tool_choice": "none"}, {5}),
    ],
)
async def test_what_is_complete_ends_although_the_end_is_to_be_ignored(
    fields: dict[str, Any], expected: set[int]
) -> None:
    job = await sampling_of({"stop_token_ids": [5], "ignore_eos": True, **fields}, tool_format="hermes")
    assert job.stop_token_ids == expected
