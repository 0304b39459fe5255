"""The application on trio, as ``hypercorn -k trio`` runs it: nothing in it is asyncio's own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from fixture_models import SMALL_MODELS_TOML
from process import Process, launch
from serving import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    # A worker process: without one hypercorn's trio does not hear SIGTERM.
    with launch(tmp_path_factory.mktemp("trio"), SMALL_MODELS_TOML, arguments=["-k", "trio", "-w", "1"]) as process:
        process.listening(60)
        deadline = time.monotonic() + 300
        while httpx.get(f"http://127.0.0.1:{process.port}/ready", timeout=60).status_code != 200:
            assert time.monotonic() < deadline, process.log
            time.sleep(0.1)
        yield process
        process.terminate()
        assert process.wait() == 0
    assert "Traceback" not in process.log


@pytest.fixture
def client(server: Process) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1",
        api_key="none",
        max_retries=0,
        timeout=60,
        _strict_response_validation=True,
    ) as client:
        yield client


def test_a_session_continues(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello!"}])
    answer = first.choices[0].message.content
    assert answer
    second = client.chat.completions.create(
        model="gpt-4o",
        messages=[
            {"role": "user", "content": "Hello!"},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": "What can you do?"},
        ],
    )
    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    # The last token was given out, and is computed with the next turn.
    assert second.usage.prompt_tokens_details.cached_tokens == first.usage.total_tokens - 1


def test_a_stream_is_the_whole_reply(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Hello!"}]
    whole = client.chat.completions.create(model="gpt-4o", messages=messages, seed=1, temperature=0)  # type: ignore[call-overload]
    stream = client.chat.completions.create(model="gpt-4o", messages=messages, seed=1, temperature=0, stream=True)  # type: ignore[call-overload]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.choices[0].message.content


def test_a_client_that_leaves_ends_its_job(server: Process, client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": "Hello!"}],
        stream=True,
        max_tokens=4000,
        extra_body={"ignore_eos": True},
    )
    next(iter(stream))
    stream.close()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}") as watching:
        seen = Server(server, watching)
        # Whole replies count otherwise, though the client may close their connection at once.
        seen.until(lambda: seen.metric("request_success", finished_reason="abort") == 1)
        seen.until(lambda: seen.metric("num_requests_running") == 0)


def test_embeddings(client: openai.OpenAI) -> None:
    reply = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"], encoding_format="float")
    assert [len(one.embedding) for one in reply.data] == [384, 384]
