"""No request breaks the server: whatever a client sends, it gets an answer or an error that is its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, running
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ark.api.chat.schema import ChatRequest

pytestmark = pytest.mark.anyio

HI = {"role": "user", "content": "hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MODELS = [
    ECHO | {"context_length": 500},
    ECHO
    | {"name": "all", "backend": "faulty_backend:Faulty", "engine": {"all_parameters": True, "reasoning": True}}
    | {"context_length": 500},
]

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.sampled_from(["auto", "none", "text", "json_schema", "<think>", "echo", "f"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
likely: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.sampled_from([0, 1, 2, 1e-300]),
    "top_p": st.sampled_from([0, 1, 1e-300]),
    "top_k": st.sampled_from([-1, 0, 1, 2**31 - 1]),
    "seed": st.sampled_from([0, -(2**63), 2**63 - 1]),
    "n": st.sampled_from([1, 2, 128]),
    "max_tokens": st.sampled_from([1, 2, 10**300]),
    "stop": st.sampled_from(["h", [], ["i", "hi"]]),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
    "logit_bias": st.dictionaries(st.sampled_from(["0", "256", "257", "-1", "x", "9" * 30]), st.integers(-101, 101)),
    "stop_token_ids": st.lists(st.sampled_from([0, 256, 10**30])),
    "ark_stateful": st.sampled_from([True, False, "", "x", "00000000-0000-4000-8000-000000000000"]),
    "response_format": st.sampled_from(
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema"},
            {"type": "json_schema", "json_schema": {}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
            {"type": "json_schema", "json_schema": {"name": 5, "schema": 5, "strict": "x"}},
        ]
    ),
    "tools": st.lists(
        st.sampled_from(
            [
                {},
                {"type": "function"},
                {"type": "function", "function": {}},
                {"type": "function", "function": {"name": "f"}},
                {"type": "function", "function": {"name": "f", "parameters": 5}},
                {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}, "strict": True}},
                {"type": "web_search"},
            ]
        ),
        max_size=3,
    ),
    "tool_choice": st.sampled_from(
        ["auto", "none", "required", "x", {}, {"type": "function"}, {"type": "function", "function": {"name": "f"}}]
    ),
    "functions": st.lists(st.sampled_from([{}, {"name": "f"}, {"name": 5}, {"name": "g", "parameters": []}])),
    "function_call": st.sampled_from(["auto", "none", "x", {}, {"name": "f"}, {"name": 5}]),
    "stream_options": st.sampled_from([{}, {"include_usage": True}]),
}
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
    optional={
        "content": st.none() | st.text(max_size=8) | st.lists(st.sampled_from([{"type": "text", "text": "x"}, {}])),
        "name": st.text(max_size=4),
        "tool_calls": st.lists(st.sampled_from([CALL, {}, CALL | {"function": {"name": "f", "arguments": "["}}])),
        "tool_call_id": st.text(max_size=4),
        "function_call": st.sampled_from([{"name": "f", "arguments": "{}"}, {"name": "f", "arguments": "5"}, {}]),
        "reasoning_content": st.text(max_size=4),
        "refusal": st.text(max_size=4),
    },
)
requests = st.fixed_dictionaries(
    {"model": st.sampled_from(["echo", "all"]), "messages": st.just([HI]) | st.lists(message, min_size=1, max_size=4)},
    optional={
        name: likely.get(name, anything) | (anything if name in likely else st.booleans())
        for name in ChatRequest.__struct_fields__
        if name not in {"model", "messages"}
    },
)
SUPPRESSED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def judge(reply: Response) -> None:
    assert reply.status in {200, 400, 404, 409}, reply.text
    if reply.status != 200:
        assert reply.error["type"] == "invalid_request_error"
    elif reply.headers["content-type"].startswith("text/event-stream"):
        assert reply.events[-1].data == "[DONE]", reply.text
    else:
        assert reply.json()["choices"]


async def ask(client: Client, body: Any) -> None:
    judge(await client.request("POST", "/v1/chat/completions", body=json.dumps(body).encode()))


@settings(max_examples=60, suppress_health_check=SUPPRESSED)
@given(requests)
async def test_any_values_of_the_known_fields(body: dict[str, Any]) -> None:
    async with running(models=MODELS, server={"log_level": "error"}) as client:
        await ask(client, body)


@settings(max_examples=50, suppress_health_check=SUPPRESSED)
@given(anything)
async def test_any_json(body: Any) -> None:
    async with running(models=MODELS, server={"log_level": "error"}) as client:
        await ask(client, body)
        await ask(client, {"model": "all", "messages": body})
        await ask(client, {"model": "all", "messages": [body]})
        await ask(client, {"model": "all", "messages": [HI | {"content": body}]})


@settings(max_examples=60, suppress_health_check=SUPPRESSED)
@given(st.text(max_size=12), st.sampled_from(["GET", "HEAD", "POST", "DELETE", "PUT"]), st.booleans())
async def test_any_path(path: str, method: str, below: bool) -> None:
    async with running(models=MODELS, server={"log_level": "error"}) as client:
        prefix = "/v1/models/" if below else "/"
        async with client.open(method, prefix + path.replace("%", "")) as exchange:
            pass
    assert exchange.response.status in {200, 400, 404, 405}
    assert exchange.response.complete
