"""ARK in front of llama.cpp's server: sessions of ARK's over engines that may be killed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from llama_server import LlamaServer, llama_server
from remote_conversations import LENGTH, kill_one, new_client, said, wrong_turns
from running import Running, serve
from scraped import families
from tiny_gguf import CONTEXT, save_tiny_gguf

from ark.app import create_app
from ark.config import Config, ModelConfig, SamplingConfig

SESSIONS = 12


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "tiny.gguf"
    save_tiny_gguf(path)
    return path


@pytest.fixture(scope="module")
def engines(weights: Path) -> Iterator[list[LlamaServer]]:
    with (
        llama_server(weights, slots=SESSIONS, slot_tokens=CONTEXT // SESSIONS) as one,
        llama_server(weights, slots=SESSIONS, slot_tokens=CONTEXT // SESSIONS) as other,
    ):
        yield [one, other]


@pytest.fixture(scope="module")
def server(weights: Path, engines: list[LlamaServer]) -> Iterator[Running]:
    engine = {"url": [one.url for one in engines], "health_seconds": 1.0}
    greedy = SamplingConfig(temperature=0.0)
    model = ModelConfig(name="far", path=str(weights), backend="remote", engine=engine, sampling=greedy)
    with serve(create_app(Config(models=(model,)))) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with new_client(server) as client:
        yield client


def ask(client: openai.OpenAI, messages: list[Any], **fields: Any) -> Any:
    return client.chat.completions.with_raw_response.create(model="far", messages=messages, max_tokens=LENGTH, **fields)


def test_a_session_goes_on_is_rewound_and_shows_what_was_cached(client: openai.OpenAI) -> None:
    messages = [said("user", "one " * 30)]
    first = ask(client, messages)
    reply = first.parse()
    assert first.headers["x-ark-session"].endswith("; created")
    messages += [said("assistant", reply.choices[0].message.content), said("user", "two")]
    second = ask(client, messages)
    usage = second.parse().usage
    assert second.headers["x-ark-session"].endswith("; continued")
    # Of the last token of a reply there is no state.
    assert usage.prompt_tokens_details.cached_tokens == reply.usage.total_tokens - 1
    again = ask(client, [*messages[:2], said("user", "three")])
    assert again.headers["x-ark-session"].endswith("; rewound")
    assert int(again.headers["x-ark-cached-tokens"]) >= reply.usage.total_tokens - 1


def test_the_metrics_say_how_each_engine_is(server: Running, engines: list[LlamaServer], client: openai.OpenAI) -> None:
    ask(client, [said("user", "hello")])
    told = families(httpx.get(f"{server.url}/metrics").text)
    assert {sample.labels["url"]: sample.value for sample in told["ark:upstream_up"].samples} == {
        engine.url: 1 for engine in engines
    }
    jobs = told["ark:upstream_jobs"].samples
    assert {frozenset(sample.labels) for sample in jobs} == {frozenset({"model_name", "url", "outcome"})}
    assert sum(sample.value for sample in jobs if sample.labels["outcome"] == "finished") > 0


def test_a_schema_holds(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    reply = ask(client, [said("user", "a number")], response_format=wanted).parse()
    assert json.loads(reply.choices[0].message.content)["n"] <= 9


def test_stop_texts_and_several_replies(client: openai.OpenAI) -> None:
    whole = ask(client, [said("user", "go on")]).parse().choices[0].message.content
    reply = ask(client, [said("user", "go on")], stop=[whole[5:8]], n=2).parse()
    assert [choice.message.content for choice in reply.choices] == [whole[: whole.index(whole[5:8])]] * 2


def test_what_the_engine_cannot_do_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="does not support 'presence_penalty'"):
        ask(client, [said("user", "hi")], presence_penalty=1.0)


def test_a_client_that_leaves_ends_its_job(server: Running, client: openai.OpenAI, engines: list[LlamaServer]) -> None:
    before = server.status().jobs_cancelled
    stream = client.chat.completions.create(
        model="far", messages=[{"role": "user", "content": "go on"}], max_tokens=1200, stream=True
    )
    next(iter(stream))
    stream.close()
    assert server.settle().jobs_cancelled == before + 1


def test_no_turn_is_lost_or_wrong_where_an_engine_is_killed(
    server: Running, engines: list[LlamaServer], weights: Path
) -> None:
    """Each answer is the one that the engine that stays gives to the whole conversation by itself."""
    conversations = kill_one(server, engines[0], SESSIONS, turns=4)
    status = server.settle()
    assert [one.up for one in status.upstreams] == [False, True]
    assert status.upstreams[0].finished + status.upstreams[0].failed > 0
    assert wrong_turns(conversations, engines[1], weights) == []
    # Nobody begins anew: the turns that failed are of the same sessions.
    assert all(len({session.partition(";")[0] for session in one.sessions}) == 1 for one in conversations)
