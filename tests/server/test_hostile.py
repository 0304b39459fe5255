"""Recordings and schemas that were made to harm, sent to a real server: they cost nobody but who sends them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("torch")
pytest.importorskip("faster_whisper")

from fixture_models import real_model
from hostile_audio import CONCAT, au, mp4, png, sdp
from process import Process, launch
from recordings import file_of, noise
from tiny_model import save_tiny_llama

GOOD = file_of(noise(2.0)).getvalue()

RECORDINGS = [
    au(0x62003E80),
    mp4(1 << 26),
    sdp(500),
    png(),
    CONCAT % b"private/meeting.wav",
    au(16_000, 64, bytes(6400)),
]
CHAIN = {f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}} for i in range(1200)}
SCHEMAS: list[dict[str, Any]] = [
    {"$defs": CHAIN, "$ref": "#/$defs/a0"},
    {"allOf": [{"type": "string", "pattern": f".*{chr(97 + i % 26)}.{{{i}}}z"} for i in range(30)]},
    {"$defs": {f"{i}": {"$anchor": f"a{i}", "items": {"$ref": f"#a{i + 1}"}} for i in range(1500)}, "$ref": "#a0"},
]


@contextmanager
def started(directory: Path, **options: Any) -> Iterator[tuple[Process, httpx.Client]]:
    tiny = directory / "tiny"
    tiny.mkdir()
    save_tiny_llama(tiny, every_byte=True)
    (directory / "private").mkdir()
    (directory / "private" / "meeting.wav").write_bytes(GOOD)
    config = f"""
        [[models]]
        name = "tiny"
        path = "{tiny}"
        engine = {{ dtype = "float32", threads = 1 }}

        [[models]]
        name = "speech"
        task = "transcription"
        path = "{real_model("transcription")}"
        engine = {{ threads = 1 }}
    """
    with launch(directory, config, **options) as server:
        server.listening(120)
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client:
            deadline = time.monotonic() + 120
            while client.get("/ready").status_code != 200:
                assert time.monotonic() < deadline, server.log
                time.sleep(0.1)
            yield server, client


@pytest.fixture(scope="module")
def ark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, httpx.Client]]:
    with started(tmp_path_factory.mktemp("ark"), program="ark") as running:
        yield running


def transcribe(client: httpx.Client, recording: bytes) -> httpx.Response:
    return client.post("/v1/audio/transcriptions", data={"model": "speech"}, files={"file": ("a.wav", recording)})


def chat(client: httpx.Client, schema: dict[str, Any], **more: Any) -> httpx.Response:
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 8, "response_format": form}
    return client.post("/v1/chat/completions", json=body | more)


def tool(client: httpx.Client, schema: dict[str, Any]) -> httpx.Response:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"} | schema, "strict": True}}]
    body = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 8, "tools": tools}
    return client.post("/v1/chat/completions", json=body | {"tool_choice": "required"})


def both_work(client: httpx.Client) -> None:
    assert transcribe(client, GOOD).status_code == 200
    schema = {"type": "object", "properties": {"a": {"enum": ["b"]}}, "required": ["a"], "additionalProperties": False}
    reply = chat(client, schema, max_tokens=200)
    assert reply.status_code == 200
    assert json.loads(reply.json()["choices"][0]["message"]["content"]) == {"a": "b"}


def test_whoever_sends_them_gets_400_and_others_are_served(ark: tuple[Process, httpx.Client]) -> None:
    server, client = ark
    both_work(client)
    before = memory(server)
    slowest = 0.0
    over = threading.Event()

    def look() -> None:
        nonlocal slowest
        with httpx.Client(base_url=client.base_url, timeout=120) as another:
            while not over.wait(0.05):
                begun = time.monotonic()
                assert another.get("/health").status_code == 200
                slowest = max(slowest, time.monotonic() - begun)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            sent = [pool.submit(transcribe, client, recording) for recording in RECORDINGS * 2]
            sent += [pool.submit(way, client, schema) for schema in SCHEMAS for way in (chat, tool)]
            both_work(client)
            replies = [one.result() for one in sent]
    finally:
        over.set()
        looking.join()
    assert {reply.status_code for reply in replies} <= {400, 415}, [reply.text for reply in replies]
    assert all(reply.json()["error"]["code"] != "internal_error" for reply in replies)
    assert slowest < 2
    assert memory(server) - before < 250
    assert "Traceback" not in server.log
    both_work(client)


def test_recordings_of_others_below_the_working_directory_are_not_read(ark: tuple[Process, httpx.Client]) -> None:
    reply = transcribe(ark[1], CONCAT % b"private/meeting.wav")
    assert reply.status_code == 415


def test_a_daemonic_worker_decodes_and_compiles_too(tmp_path: Path) -> None:
    """``hypercorn -w 1`` serves in a process that `multiprocessing` lets start no other."""
    with started(tmp_path, program="hypercorn", arguments=["-w", "1"]) as (_, client):
        both_work(client)
        assert transcribe(client, RECORDINGS[0]).status_code == 400
        assert chat(client, SCHEMAS[0]).status_code == 400
        pattern = {"type": "string", "pattern": "^[ab]{1,3}$"}
        assert chat(client, pattern).status_code == 200


def memory(server: Process) -> float:
    """Megabytes that the server has had at most."""
    with open(f"/proc/{server.pid}/status") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
