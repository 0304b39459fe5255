"""What goes wrong in the engine's own thread, and how far it reaches: memory that is not there, bugs, a dead thread."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import faulty_torch
import httpx
import openai
import pytest
from serving import Server, states
from wire import connected, post, read_to_the_end, read_until

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
FAULTS: tuple[faulty_torch.Fault, ...] = ("out of memory", "memory error", "bug")


def chat(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "max_tokens": 12, "temperature": 0} | fields


def ask(server: Server, model: str, **fields: Any) -> httpx.Response:
    return server.client.post("/v1/chat/completions", json=chat(model, **fields))


def is_engine_failure(reply: httpx.Response) -> bool:
    """The same for every fault, and nothing of what the engine said."""
    error = reply.json()["error"]
    assert faulty_torch.SECRET not in reply.text
    assert "Traceback" not in reply.text
    assert int(reply.headers["retry-after"]) > 0
    return (reply.status_code, error["code"], error["type"]) == (503, "engine_failed", "server_error")


@pytest.fixture
def fragile(models: Mapping[str, Path]) -> Iterator[Path]:
    yield models["fragile"]
    faulty_torch.set_fault(models["fragile"], None)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_step_is_one_503_and_the_next_request_is_answered(
    torch: Server, fragile: Path, fault: faulty_torch.Fault
) -> None:
    expected = ask(torch, "fragile", ark_stateful=False).json()["choices"]
    faulty_torch.set_fault(fragile, fault)
    assert is_engine_failure(ask(torch, "fragile"))
    # The others have engines of their own.
    assert ask(torch, "tiny").status_code == 200
    assert torch.ask().status_code == 200
    faulty_torch.set_fault(fragile, None)
    again = ask(torch, "fragile", ark_stateful=False)
    assert again.json()["choices"] == expected
    assert states(torch)["fragile"] == "ready"
    assert torch.metric("kv_cache_bytes", model_name="fragile") > 0
    # The log has what the reply must not have.
    assert faulty_torch.SECRET in torch.process.log


@pytest.mark.parametrize("fault", FAULTS)
def test_a_stream_ends_with_the_error(torch: Server, fragile: Path, fault: faulty_torch.Fault) -> None:
    with connected(torch.port) as connection:
        connection.sendall(post(chat("fragile", stream=True, ignore_eos=True, max_tokens=3000), "connection: close"))
        seen = read_until(connection, b"data: ", 10)
        faulty_torch.set_fault(fragile, fault)
        seen += read_to_the_end(connection)
    *_, last = [line for line in seen.splitlines() if line.startswith(b"data: ")]
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_failed"
    assert b"[DONE]" not in seen
    assert faulty_torch.SECRET.encode() not in seen


def test_openais_client_comes_again_and_is_answered(torch: Server, fragile: Path) -> None:
    faulty_torch.set_fault(fragile, "out of memory")
    mended = threading.Timer(0.3, faulty_torch.set_fault, (fragile, None))
    mended.start()
    with openai.OpenAI(base_url=f"http://127.0.0.1:{torch.port}/v1", api_key="none", max_retries=4) as client:
        reply = client.chat.completions.create(model="fragile", messages=HELLO, max_tokens=5)
    mended.join()
    assert reply.choices[0].finish_reason in ("length", "stop")


def test_a_turn_that_failed_leaves_its_session_as_it_was(torch: Server, fragile: Path) -> None:
    session, other = str(uuid.uuid4()), str(uuid.uuid4())
    expected = [ask(torch, "fragile", ark_stateful=other).json()["choices"] for _ in range(2)]
    assert ask(torch, "fragile", ark_stateful=session).json()["choices"] == expected[0]
    faulty_torch.set_fault(fragile, "out of memory")
    assert is_engine_failure(ask(torch, "fragile", ark_stateful=session))
    faulty_torch.set_fault(fragile, None)
    assert torch.client.get(f"/v1/sessions/{session}").json()["messages"] == 2
    assert ask(torch, "fragile", ark_stateful=session).json()["choices"] == expected[1]


def asked_at_once(
    server: Server, model: str, path: Path, count: int, fault: faulty_torch.Fault
) -> list[httpx.Response]:
    """The replies to so many requests that are all with the engine when it breaks."""
    replies: list[httpx.Response] = []
    faulty_torch.set_fault(path, "hold")
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"

    def one() -> None:
        replies.append(httpx.post(url, json=chat(model), timeout=60))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    inside = ("num_requests_running", "num_requests_waiting")
    server.until(lambda: sum(server.metric(name, model_name=model) for name in inside) == count)
    faulty_torch.set_fault(path, fault)
    for thread in threads:
        thread.join(60)
    return replies


def test_a_thread_that_dies_leaves_nobody_waiting(torch: Server, models: Mapping[str, Path]) -> None:
    replies = asked_at_once(torch, "doomed", models["doomed"], 8, "exit")
    assert len(replies) == 8
    assert all(is_engine_failure(reply) for reply in replies)
    is_dead(torch, "doomed")
    assert "the engine's thread died" in torch.process.log


def test_an_engine_that_fails_again_and_again_gives_up(torch: Server, models: Mapping[str, Path]) -> None:
    faulty_torch.set_fault(models["hopeless"], "out of memory")
    deadline = time.monotonic() + 60
    while states(torch)["hopeless"] == "ready":
        assert ask(torch, "hopeless").status_code == 503
        assert time.monotonic() < deadline
    faulty_torch.set_fault(models["hopeless"], None)
    is_dead(torch, "hopeless")
    assert "5 steps failed in a row" in torch.process.log


def is_dead(server: Server, model: str) -> None:
    """Refused at once, said by /ready and the list of models, and nobody else's trouble."""
    refused = ask(server, model)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_failed")
    assert faulty_torch.SECRET not in refused.text
    ready = server.client.get("/ready")
    assert ready.status_code == 503
    assert f"{model} is failed" in ready.json()["error"]["message"]
    assert states(server)[model] == "failed"
    assert server.client.get("/health").status_code == 200
    assert server.ask().status_code == 200
    assert ask(server, "tiny").status_code == 200
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_bytes"):
        assert server.metric(name, model_name=model) == 0
