"""Recorded runs of agents, which send no cookie, against a model whose template drops past reasoning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.cookiejar import DefaultCookiePolicy
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_models import only
from running import Running, serve

from ark.app import create_app

AGENTS = Path(__file__).parents[1] / "data" / "agents" / "chat"
RUNS = {
    # Requests of one conversation, by their places in the recording.
    "aider": (0,),
    "cline": (0, 1),
    "continue": (0, 1),
    "opencode": (1, 2),
    "pi": (0, 1, 2),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("chat"))) as running:
        yield running


class Agent:
    """Sends what the recording has, with ARK's own replies in the places of those that were recorded."""

    def __init__(self, server: Running, name: str) -> None:
        self._server = server
        run = json.loads((AGENTS / f"{name}.json").read_text())
        self.requests = [run[place] for place in RUNS[name]]
        self._replies: list[dict[str, Any]] = []

    def run(self, client: httpx.Client) -> list[httpx.Response]:
        self._replies = []
        replies = []
        for number, request in enumerate(self.requests):
            later = self.requests[number + 1 : number + 2]
            new = later[0]["body"]["messages"][len(request["body"]["messages"]) :] if later else []
            replies.append(self._ask(client, request, calls=bool(new and new[0].get("tool_calls"))))
        return replies

    def _ask(self, client: httpx.Client, request: dict[str, Any], *, calls: bool) -> httpx.Response:
        body = {**request["body"], "messages": self._history(request["body"]["messages"])}
        del body["stream"]
        body.pop("stream_options", None)
        body |= {"temperature": 0, "max_tokens": 200}
        if body.get("tools"):
            body["tool_choice"] = "required" if calls else "none"
        reply = client.post(f"{self._server.url}/v1/chat/completions", json=body, headers=request["headers"])
        assert reply.status_code == 200, reply.text
        self._replies.append(reply.json()["choices"][0]["message"])
        return reply

    def _history(self, recorded: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The recorded messages, where the client has written ARK's replies into them as it writes replies."""
        first = self.requests[0]["body"]["messages"]
        history, replies = list(first), iter(self._replies)
        results: list[dict[str, Any]] = []
        for message in recorded[len(first) :]:
            if message["role"] == "assistant":
                said = next(replies)
                written = {**message, "content": said["content"] or message["content"]}
                if "tool_calls" in message:
                    written |= {"content": message["content"], "tool_calls": said["tool_calls"]}
                history.append(written)
                results = [{"tool_call_id": call["id"]} for call in said.get("tool_calls", ())]
            elif message["role"] == "tool":
                # One result for each of ARK's calls, however many were recorded.
                for result in results:
                    history.append({**message, **result})
                results = []
            else:
                history.append(message)
        return history


def usage(reply: httpx.Response) -> tuple[int, int]:
    """Tokens of the whole turn, and those of its prompt that were cached."""
    told = reply.json()["usage"]
    return told["total_tokens"], told["prompt_tokens_details"]["cached_tokens"]


def message(reply: httpx.Response) -> dict[str, Any]:
    said: dict[str, Any] = reply.json()["choices"][0]["message"]
    calls = [call["function"] for call in said.get("tool_calls", ())]
    return {"content": said["content"], "reasoning": said.get("reasoning_content"), "calls": calls}


@pytest.mark.parametrize("name", RUNS)
def test_an_agents_turns_read_only_what_is_new_and_are_answered_as_by_cookie(server: Running, name: str) -> None:
    agent = Agent(server, name)
    with httpx.Client(timeout=60) as client:
        client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        replies = agent.run(client)
    with httpx.Client(timeout=60) as jar:
        by_cookie = agent.run(jar)
        assert jar.cookies
    assert [message(reply) for reply in replies] == [message(reply) for reply in by_cookie]
    for before, reply in pairwise(replies):
        session, how, found = reply.headers["x-ark-session"].split("; ")
        assert (session, how) == (before.headers["x-ark-session"].split("; ")[0], "continued")
        assert found == ("name" if name == "opencode" else "content")
        assert usage(reply)[1] >= 0.99 * usage(before)[0]


@pytest.mark.parametrize("reasoning", ["sent", "sealed", "dropped"])
def test_so_does_a_client_of_responses_that_sends_its_whole_history(server: Running, reasoning: str) -> None:
    """As Codex, the Agents SDKs and others do, with or without the items of reasoning."""
    weather = {
        "type": "function",
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    items: list[dict[str, Any]] = [{"role": "user", "content": f"What is the weather in Paris? {reasoning}"}]
    body = {"model": "gpt-4o", "tools": [weather], "temperature": 0, "max_output_tokens": 200, "store": False}
    if reasoning == "sealed":
        body["include"] = ["reasoning.encrypted_content"]

    def ask(choice: str) -> httpx.Response:
        url = f"{server.url}/v1/responses"
        reply = httpx.post(url, json={**body, "input": items, "tool_choice": choice}, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply

    first = ask("required")
    output = first.json()["output"]
    assert output[0]["type"] == "reasoning"
    assert bool(output[0].get("encrypted_content")) == (reasoning == "sealed")
    items += [item for item in output if reasoning != "dropped" or item["type"] != "reasoning"]
    calls = [item for item in output if item["type"] == "function_call"]
    items += [{"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"} for call in calls]
    second = ask("none")
    assert second.headers["x-ark-session"].endswith("; continued; content")
    cached = second.json()["usage"]["input_tokens_details"]["cached_tokens"]
    assert cached >= 0.99 * first.json()["usage"]["total_tokens"]
