"""/responses with OpenAI's client, which checks what it gets, on a model that thinks and calls tools."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pydantic
import pytest

pytest.importorskip("torch")

from fixture_models import only
from process import ECHO_TOML
from response_referees import check_body
from running import Running, serve
from serving import serving

from ark.app import create_app
from ark.config import ResponsesConfig

WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "The city"}},
        "required": ["city"],
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("chat"))) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        timeout=60,
        _strict_response_validation=True,
        # Without a cookie jar: nothing but ids says what continues what.
        http_client=httpx.Client(cookies=NoCookies()),
    ) as made:
        yield made


class NoCookies(httpx.Cookies):
    def extract_cookies(self, response: httpx.Response) -> None:
        pass


def test_what_was_thought_is_remembered_by_the_id(client: openai.OpenAI) -> None:
    first = client.responses.create(model="gpt-4o", input="Think of a secret code word. Do not tell me yet.")
    thought = first.output[0]
    assert thought.type == "reasoning"
    assert thought.content is not None
    second = client.responses.create(model="gpt-4o", input="What was the code word?", previous_response_id=first.id)
    word = second.output_text.rstrip(".").split()[-1]
    assert word in thought.content[0].text
    assert second.usage is not None
    assert second.usage.input_tokens_details.cached_tokens > 0


SHARED = ResponsesConfig(encryption_key="a secret that two servers have in common")


def test_what_was_thought_is_read_again_by_another_server() -> None:
    config = msgspec.structs.replace(
        only("chat"), responses=ResponsesConfig(encryption_key="a secret of both servers, long" * 2)
    )
    asked: Any = {"model": "gpt-4o", "store": False, "include": ["reasoning.encrypted_content"]}
    question: Any = {"role": "user", "content": "Think of a secret code word. Do not tell me yet."}
    with serve(create_app(config)) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)
        first = client.responses.create(input=[question], **asked).model_dump()
        whole = client.responses.create(input=[question], **asked)
    thought, answer = first["output"]
    word = thought.pop("content")[0]["text"].partition("My code word is ")[2].partition(".")[0]
    assert word
    with serve(create_app(config)) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60)
        later = [question, thought, answer, {"role": "user", "content": "What was the code word?"}]
        second = client.responses.create(input=later, **asked)
    assert word in second.output_text
    assert whole.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > whole.usage.total_tokens


def test_a_chain_costs_its_new_tokens_only(client: openai.OpenAI) -> None:
    """A branch too: each turn is asked twice."""
    before, known = None, 0
    for turn in range(8):
        for stream in (False, True):
            asked: Any = {"model": "gpt-4o", "input": f"Say the number {turn}.", "previous_response_id": before}
            if stream:
                with client.responses.stream(**asked) as events:
                    response = events.get_final_response()
            else:
                response = client.responses.create(**asked)
            usage = response.usage
            assert usage is not None
            assert usage.input_tokens - known < 40
            # The last sampled token never has state.
            assert usage.input_tokens_details.cached_tokens >= known - 1
        before, known = response.id, usage.total_tokens
    assert [item.content[0].text for item in client.responses.input_items.list(before or "")]  # type: ignore[union-attr, index]


def test_a_call_its_output_and_an_answer(client: openai.OpenAI) -> None:
    asked = client.responses.create(model="gpt-4o", input="What is the weather in Paris?", tools=[WEATHER])
    call = asked.output[-1]
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Paris"}
    result = json.dumps({"city": "Paris", "temperature": 21, "conditions": "sunny"})
    answered = client.responses.create(
        model="gpt-4o",
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": result}],
        previous_response_id=asked.id,
        tools=[WEATHER],
    )
    assert "21" in answered.output_text
    assert answered.usage is not None
    assert asked.usage is not None
    assert answered.usage.input_tokens_details.cached_tokens >= asked.usage.total_tokens - 1


@pytest.mark.parametrize(
    ("syntax", "definition"),
    [("lark", 'start: PART "-" PART\nPART: /[0-9]{3}/'), ("regex", "[0-9]{3}-[0-9]{3}")],
)
def test_a_custom_tool_is_held_to_its_grammar(client: openai.OpenAI, syntax: Any, definition: str) -> None:
    form: Any = {"type": "grammar", "syntax": syntax, "definition": definition}
    response = client.responses.create(
        model="gpt-4o",
        input="What is the weather in Paris?",
        tools=[{"type": "custom", "name": "dial", "description": "Dial a number.", "format": form}],
        tool_choice={"type": "custom", "name": "dial"},
        reasoning={"effort": "none"},
    )
    call = response.output[-1]
    assert call.type == "custom_tool_call"
    assert re.fullmatch("[0-9]{3}-[0-9]{3}", call.input)


def test_text_in_a_form_and_log_probabilities(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    response = client.responses.create(
        model="gpt-4o",
        input="Where is the Eiffel tower?",
        text={"format": {"type": "json_schema", "name": "place", "schema": schema, "strict": True}},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
    )
    assert [*json.loads(response.output_text)] == ["city"]
    message = response.output[-1]
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    assert part.logprobs
    assert len(part.logprobs[0].top_logprobs) == 2


def test_a_deleted_response_is_not_continued(client: openai.OpenAI) -> None:
    made = client.responses.create(model="gpt-4o", input="Hello!")
    assert client.responses.retrieve(made.id).output_text == made.output_text
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="gpt-4o", input="Hello!", previous_response_id=made.id)
    assert refused.value.code == "previous_response_not_found"


def test_responses_survive_the_end_of_the_process(tmp_path: Path) -> None:
    config = ECHO_TOML + f'\n[sessions]\npath = "{tmp_path / "sessions.db"}"\n'

    def post(server: Any, text: str, before: str | None = None) -> Any:
        reply = server.client.post(
            "/v1/responses", json={"model": "echo", "input": text, "previous_response_id": before}
        )
        assert reply.status_code == 200, reply.text
        return check_body(reply.json())

    with serving(tmp_path, config) as server:
        first = post(server, "a")
        second = post(server, "b", first["id"])
        branch = post(server, "c", first["id"])
        server.client.delete(f"/v1/responses/{first['id']}").raise_for_status()
        server.client.delete(f"/v1/responses/{branch['id']}").raise_for_status()
        os.kill(server.pid, signal.SIGKILL)
    with serving(tmp_path, config) as server:
        for gone in (first, branch):
            assert server.client.get(f"/v1/responses/{gone['id']}").status_code == 404
        assert server.client.get(f"/v1/responses/{second['id']}").json() == second
        third = post(server, "d", second["id"])
        assert third["usage"]["input_tokens"] == second["usage"]["total_tokens"] + len("user: d\nassistant: ")
        assert server.metric("responses") == 2


class Place(pydantic.BaseModel):
    city: str
    floors: int | None = None


def test_the_clients_helpers(client: openai.OpenAI) -> None:
    """They parse what is said, and go on with a stream from any event."""
    asked: Any = {"model": "gpt-4o", "input": "Where is the Eiffel tower?", "text_format": Place}
    assert isinstance(client.responses.parse(**asked).output_parsed, Place)
    with client.responses.stream(**asked) as stream:
        assert "response.reasoning_text.done" in [event.type for event in stream]
        assert isinstance(stream.get_final_response().output_parsed, Place)
    made = client.responses.create(model="gpt-4o", input="Count from 1 to 20.", background=True)
    with client.responses.stream(response_id=made.id, starting_after=2) as resumed:
        kinds = [event.type for event in resumed]
        assert (kinds[0], kinds[-1]) == ("response.output_item.added", "response.completed")
        assert "20. twenty" in resumed.get_final_response().output_text


def test_a_conversation_remembers(client: openai.OpenAI) -> None:
    made = client.conversations.create(metadata={"a": "b"})
    for text in ("My name is Ada.", "What is my name?"):
        response = client.responses.create(model="gpt-4o", input=text, conversation=made.id)
    assert "Ada" in response.output_text
    items = [item.type for item in client.conversations.items.list(made.id, limit=2, order="asc")]
    assert items.count("message") == 4


# The client calls its library of WebSockets in an older way.
@pytest.mark.filterwarnings("ignore:connect:DeprecationWarning")
def test_the_clients_connection(client: openai.OpenAI) -> None:
    before: Any = None
    with client.responses.connect() as connection:
        for text in ("My name is Ada.", "What is my name?"):
            connection.response.create(model="gpt-4o", input=text, previous_response_id=before, store=False)
            for event in connection:
                if event.type == "response.completed":
                    break
            before = event.response.id  # type: ignore[union-attr]
    assert "Ada" in event.response.output_text  # type: ignore[union-attr]
