"""POST /audio/transcriptions and /audio/translations, with recordings that have the words written in them."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_client import Client, Response, backend_of, running
from scraped import scrape
from written_speech import SECRET, recording

pytestmark = pytest.mark.anyio

SPEECH: dict[str, Any] = {"name": "speech", "task": "transcription", "backend": "written_speech:WrittenSpeech"}
MODELS = [SPEECH, SPEECH | {"name": "english"}]
TWO = recording("0.5 1.25 Hallo Welt.", "3599.9996 3661.5 a <b> --> c")


def form(file: bytes | None, fields: list[tuple[str, str]]) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode() for name, text in fields
    ]
    if file is not None:
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        parts.append(head + file + b"\r\n")
    return b"".join(parts) + b"--b--\r\n"


async def send(
    client: Client, *fields: tuple[str, str], file: bytes | None = TWO, route: str = "transcriptions"
) -> Response:
    sent = fields if any(name == "model" for name, _ in fields) else (("model", "whisper-1"), *fields)
    headers = [("content-type", "multipart/form-data; boundary=b")]
    return await client.request("POST", f"/v1/audio/{route}", body=form(file, list(sent)), headers=headers)


async def test_the_formats() -> None:
    async with running(models=MODELS) as client:
        replies = {
            name: await send(client, ("response_format", name))
            for name in ("json", "text", "srt", "vtt", "verbose_json")
        }
    assert {reply.status for reply in replies.values()} == {200}
    text = "Hallo Welt. a <b> --> c"
    assert replies["json"].json() == {"text": text, "usage": {"type": "duration", "seconds": 3661.5}}
    assert replies["text"].text == text + "\n"
    assert replies["text"].headers["content-type"] == "text/plain; charset=utf-8"
    assert replies["srt"].text == (
        "1\n00:00:00,500 --> 00:00:01,250\nHallo Welt.\n\n2\n01:00:00,000 --> 01:01:01,500\na <b> -> c\n\n"
    )
    assert replies["vtt"].text == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.250\nHallo Welt.\n\n01:00:00.000 --> 01:01:01.500\na &lt;b&gt; -&gt; c\n\n"
    )
    verbose = replies["verbose_json"].json()
    assert (verbose["task"], verbose["language"], verbose["duration"]) == ("transcribe", "german", 3661.5)
    assert [one["id"] for one in verbose["segments"]] == [0, 1]
    assert "words" not in verbose


async def test_metrics() -> None:
    of_speech = {"model_name": "speech"}
    async with running(models=MODELS) as client:
        await send(client)
        await send(client, ("stream", "true"))
        await send(client, file=b"noise")
        assert (await send(client, file=recording("0 1 a", "1 2 break"))).status == 500
        body = form(recording("0 1 first", "1 2 slow"), [("model", "whisper-1"), ("stream", "true")])
        headers = [("content-type", "multipart/form-data; boundary=b")]
        async with client.open("POST", "/v1/audio/transcriptions", body=body, headers=headers) as exchange:
            await exchange.until(1)
            during = await scrape(client)
            exchange.disconnect()
        told = await scrape(client)
    assert during("transcriptions_running", **of_speech) == 1
    assert told("transcriptions_running", **of_speech) == told("transcriptions_waiting", **of_speech) == 0
    # Each whole recording has two segments, and the other two had one before their end.
    assert told("audio_segments_total", **of_speech) == 6
    assert told("audio_seconds_total", **of_speech) == 2 * 3661.5
    jobs = {name: told("engine_jobs_total", outcome=name, **of_speech) for name in ("finished", "failed", "cancelled")}
    assert jobs == {"finished": 2, "failed": 2, "cancelled": 1}
    ends = {
        name: told("request_success_total", finished_reason=name, **of_speech) for name in ("stop", "error", "abort")
    }
    assert ends == {"stop": 2, "error": 1, "abort": 1}
    assert told("e2e_request_latency_seconds_count", **of_speech) == 2
    assert told("http_requests_total", route="/audio/transcriptions", method="POST", status="415") == 1
    assert told("http_requests_total", route="/audio/transcriptions", method="POST", status="499") == 1


async def test_a_file_of_openais_largest_size_passes() -> None:
    async with running(models=MODELS) as client:
        spoken = recording("0 1 Hallo", "1 2 ")
        reply = await send(client, file=spoken + b"." * (25 * 1024 * 1024 - len(spoken)))
    assert reply.status == 200


async def test_silence() -> None:
    async with running(models=MODELS) as client:
        replies = [await send(client, ("response_format", name), file=recording()) for name in ("json", "srt", "vtt")]
        streamed = await send(client, ("stream", "true"), file=recording())
    assert replies[0].json()["text"] == ""
    assert [reply.text for reply in replies[1:]] == ["", "WEBVTT\n\n"]
    assert [one["type"] for one in streamed.chunks] == ["transcript.text.done"]


async def test_word_times() -> None:
    async with running(models=MODELS) as client:
        verbose = ("response_format", "verbose_json")
        words = await send(client, verbose, ("timestamp_granularities[]", "word"))
        both = await send(
            client, verbose, ("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")
        )
    assert words.json()["words"][0] == {"word": "Hallo", "start": 0.5, "end": 0.875}
    assert "segments" not in words.json()
    assert {"words", "segments"} <= both.json().keys()


async def test_a_stream() -> None:
    async with running(models=MODELS) as client:
        reply = await send(client, ("stream", "true"))
        broken = await send(client, ("stream", "true"), file=recording("0 1 good", "1 2 break"))
    *deltas, done = reply.chunks
    assert "".join(one["delta"] for one in deltas) == done["text"] == "Hallo Welt. a <b> --> c"
    assert done["usage"] == {"type": "tokens", "input_tokens": 0, "output_tokens": 6, "total_tokens": 6}
    assert reply.events[-1].data == "[DONE]"
    assert broken.chunks[0]["delta"] == "good"
    assert set(broken.chunks[-1]) == {"error"}
    assert SECRET not in broken.text


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ([("temperature", "2")], 400, "temperature"),
        ([("temperature", "nan")], 400, "temperature"),
        ([("temperature", "warm")], 400, "temperature"),
        ([("temperature", "0"), ("temperature", "1")], 400, "temperature"),
        ([("response_format", "pdf")], 400, "response_format"),
        ([("response_format", "diarized_json")], 400, "response_format"),
        ([("stream", "perhaps")], 400, "stream"),
        ([("stream", "true"), ("response_format", "srt")], 400, "stream"),
        ([("timestamp_granularities[]", "word")], 400, "timestamp_granularities"),
        ([("language", "klingon")], 400, "language"),
        ([("include[]", "logprobs")], 400, "include"),
        ([("chunking_strategy[type]", "server_vad")], 400, "chunking_strategy"),
        ([("model", "nobody")], 404, "model"),
        ([("model", "")], 400, "model"),
    ],
)
async def test_what_is_refused(fields: list[tuple[str, str]], status: int, param: str) -> None:
    async with running(models=MODELS) as client:
        reply = await send(client, *fields)
    assert (reply.status, reply.error["param"]) == (status, param)


async def test_what_the_fields_say_reaches_the_model() -> None:
    async with running(models=MODELS) as client:
        for language in ("fr", "French", "FR"):
            fields = [("language", language), ("prompt", "Ada"), ("temperature", "0.5"), ("chunking_strategy", "auto")]
            reply = await send(client, *fields, ("response_format", "verbose_json"), ("unknown", "x"))
            assert reply.json()["language"] == "french"
        job = backend_of(client).jobs[-1]
    assert (job.language, job.prompt, job.temperature, job.words) == ("fr", "Ada", 0.5, False)
    assert job.audio.closed


async def test_files_that_are_refused() -> None:
    async with running(models=MODELS, limits={"upload_bytes": 1000, "audio_seconds": 60}) as client:
        replies = {
            "none": await send(client, file=None),
            "empty": await send(client, file=b""),
            "noise": await send(client, file=b"RIFF"),
            "long": await send(client, file=recording("0 61 a")),
            "large": await send(client, file=b"a" * 1000),
        }
        json_body = await client.request("POST", "/v1/audio/transcriptions", json={"model": "whisper-1"})
    assert {name: reply.status for name, reply in replies.items()} == {
        "none": 400,
        "empty": 400,
        "noise": 415,
        "long": 400,
        "large": 413,
    }
    assert json_body.status == 415


async def test_a_model_that_loads_is_503() -> None:
    loading = SPEECH | {"engine": {"opens": False}}
    async with running(models=[loading], server={"load_wait": 0}, settle=False) as client:
        reply = await send(client)
    assert (reply.status, reply.error["code"]) == (503, "model_loading")


async def test_translations() -> None:
    async with running(models=MODELS) as client:
        reply = await send(client, ("response_format", "verbose_json"), ("language", "??"), route="translations")
        refused = await send(client, ("model", "english"), route="translations")
        job = backend_of(client).jobs[-1]
    assert (reply.json()["task"], reply.json()["language"], job.task, job.language) == (
        "translate",
        "english",
        "translate",
        None,
    )
    assert (refused.status, refused.error["param"]) == (400, "model")


async def test_a_client_that_leaves_stops_the_model() -> None:
    body = form(recording("0 1 first", "1 2 slow"), [("model", "whisper-1"), ("stream", "true")])
    headers = [("content-type", "multipart/form-data; boundary=b")]
    async with running(models=MODELS) as client:
        async with client.open("POST", "/v1/audio/transcriptions", body=body, headers=headers) as exchange:
            await exchange.until(1)
            exchange.disconnect()
        backend = backend_of(client)
        assert (len(backend.jobs), backend.closed) == (1, 1)
        assert backend.jobs[0].audio.closed
    assert exchange.response.chunks == [{"delta": "first", "type": "transcript.text.delta"}]
