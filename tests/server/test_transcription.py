"""Transcription over a real server: OpenAI's client, recordings of every format and clients that misbehave.

A small random Whisper is the real engine, whose texts mean nothing; written speech has exact ones.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

pytest.importorskip("faster_whisper")
pytest.importorskip("torch")

from asgi_client import make_config
from running import Running, serve
from tiny_whisper import save_tiny_whisper
from wire import connected, head, read_reply, read_until
from written_speech import recording

from ark.app import create_app

AUDIO = Path(__file__).parents[1] / "data" / "audio"
ROUTE = "/v1/audio/transcriptions"
FORM = "content-type: multipart/form-data; boundary=b"
TWO = recording("0.5 1.25 Hallo Welt.", "1.5 3 Guten Tag.")
ENGINE = {"device": "cpu", "workers": 1, "threads": 1, "beam_size": 1, "max_new_tokens": 6}
LIMIT = 300_000
WRITTEN, WHISPER, BUSY = range(3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("whisper")
    save_tiny_whisper(path)
    written = {"task": "transcription", "backend": "written_speech:WrittenSpeech"}
    models = [
        {"name": "written", **written},
        {"name": "whisper", "task": "transcription", "path": str(path), "engine": ENGINE},
        {"name": "busy", "max_queue": 1, **written},
    ]
    limits = {"upload_bytes": LIMIT, "body_timeout": 0.5}
    config = make_config(models=models, limits=limits, server={"unsupported_parameters": "ignore"})
    with serve(create_app(config), 120) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def everything_is_given_back(server: Running, client: openai.OpenAI) -> Iterator[None]:
    """Files on disk too: they have no name, and a descriptor as long as they are."""
    ask(client, file=("warm", TWO))
    process = psutil.Process()
    gc.collect()
    before = process.num_fds()
    yield
    for model in (WRITTEN, WHISPER, BUSY):
        server.settle(model=model)
    until(lambda: process.num_fds() <= before)


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.audio.transcriptions.create(**{"model": "written", "file": ("a.wav", TWO), **fields})


def part(name: str, data: bytes, more: str = "") -> bytes:
    return f'--b\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def body_of(file: bytes, **fields: str) -> bytes:
    texts = [part(name, text.encode()) for name, text in fields.items()]
    return b"".join([*texts, part("file", file, '; filename="a"'), b"--b--\r\n"])


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("name", ["talk.wav", "talk.flac", "talk.mp3", "talk.ogg", "talk.webm", "talk.m4a"])
def test_recordings_of_every_format(client: openai.OpenAI, name: str) -> None:
    reply = ask(
        client,
        model="whisper",
        file=AUDIO / name,
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    assert reply.duration == pytest.approx(7.68, abs=0.1)
    assert reply.language == "english"
    assert reply.text == "".join(segment.text for segment in reply.segments).strip()
    assert all(0 <= word.start <= word.end <= reply.duration for word in reply.words)


def test_every_reply_of_the_real_engine(client: openai.OpenAI) -> None:
    given: dict[str, Any] = {"model": "whisper", "file": AUDIO / "talk.wav"}
    text = ask(client, **given).text
    assert ask(client, response_format="text", **given) == text + "\n"
    assert ask(client, response_format="vtt", **given).startswith("WEBVTT\n\n")
    assert " --> " in ask(client, response_format="srt", **given)
    events = list(ask(client, stream=True, **given))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == text


# The client calls the whole resource of translations deprecated.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_exact_texts(client: openai.OpenAI) -> None:
    assert ask(client).text == "Hallo Welt. Guten Tag."
    srt = "1\n00:00:00,500 --> 00:00:01,250\nHallo Welt.\n\n2\n00:00:01,500 --> 00:00:03,000\nGuten Tag.\n\n"
    assert ask(client, response_format="srt") == srt
    events = list(ask(client, stream=True))
    assert [event.delta for event in events[:-1]] == ["Hallo Welt.", " Guten Tag."]
    assert events[-1].usage.output_tokens == 4
    verbose = ask(client, response_format="verbose_json", timestamp_granularities=["word"])
    assert [(word.word, word.start, word.end) for word in verbose.words[:2]] == [
        ("Hallo", 0.5, 0.875),
        ("Welt.", 0.875, 1.25),
    ]
    translated: Any = client.audio.translations.create(model="written", file=("a", TWO), response_format="verbose_json")
    assert (translated.language, translated.text) == ("english", "Hallo Welt. Guten Tag.")


# The client calls the whole resource of translations deprecated.
@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_what_the_real_engine_refuses(client: openai.OpenAI) -> None:
    for data, status in ((b"not audio at all" * 100, 415), (b"", 400)):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(client, model="whisper", file=("a.wav", data))
        assert (caught.value.status_code, caught.value.param) == (status, "file")
    with pytest.raises(openai.BadRequestError, match="English alone"):
        client.audio.translations.create(model="whisper", file=AUDIO / "talk.wav")


def test_a_recording_that_breaks_off(client: openai.OpenAI) -> None:
    data = (AUDIO / "talk.mp3").read_bytes()
    reply = ask(client, model="whisper", file=("a.mp3", data[: len(data) // 2]), response_format="verbose_json")
    assert 3 < reply.duration < 4.5


def test_what_is_not_supported_is_ignored_and_named(client: openai.OpenAI) -> None:
    raw = client.audio.transcriptions.with_raw_response.create(
        model="written", file=("a", TWO), include=["logprobs"], chunking_strategy={"type": "server_vad"}
    )
    assert raw.headers["x-ark-ignored"] == "include, chunking_strategy"
    assert raw.parse().text == "Hallo Welt. Guten Tag."


def test_a_full_queue_is_429_until_the_first_client_leaves(client: openai.OpenAI, server: Running) -> None:
    sent = body_of(recording("0 1 first", "1 2 slow"), model="busy", stream="true")
    before = server.settle(model=BUSY)
    with connected(server.port) as first:
        first.sendall(head("POST", ROUTE, FORM, f"content-length: {len(sent)}") + sent)
        read_until(first, b"first")
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, model="busy")
        assert caught.value.code == "queue_full"
        assert caught.value.response.headers["retry-after"] == "3"
    after = server.settle(model=BUSY)
    assert after.jobs_cancelled == before.jobs_cancelled + 1
    assert ask(client, model="busy").text == "Hallo Welt. Guten Tag."


def test_a_client_that_leaves_in_mid_upload(client: openai.OpenAI, server: Running) -> None:
    before = server.settle()
    with connected(server.port) as leaving:
        leaving.sendall(head("POST", ROUTE, FORM, "content-length: 200000") + body_of(b"a" * 50_000)[:-10])
    assert ask(client).text
    assert server.settle().jobs_finished == before.jobs_finished + 1


def test_a_body_that_comes_too_slowly(server: Running) -> None:
    with connected(server.port) as slow:
        slow.sendall(head("POST", ROUTE, FORM, "content-length: 200000") + body_of(b"a" * 50_000)[:-10])
        assert read_reply(slow)[0] == 408


def test_a_chunked_body_over_the_limit(server: Running) -> None:
    with connected(server.port) as large:
        large.sendall(head("POST", ROUTE, FORM, "transfer-encoding: chunked"))
        piece = body_of(b"a" * (LIMIT + 1))
        large.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n0\r\n\r\n")
        assert read_until(large, b"\r\n").startswith(b"HTTP/1.1 413")
