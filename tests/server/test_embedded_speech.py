"""The embedded speech model over a real server: what was said, when, and nothing where nothing was."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import openai
import pytest

pytest.importorskip("faster_whisper")

from fixture_models import only
from recordings import file_of, noise
from running import Running, serve

from ark.app import create_app
from tools.training.speech.evaluate import distance, plain

AUDIO = Path(__file__).parents[1] / "data" / "audio"
SPOKEN = json.loads((AUDIO / "spoken.json").read_text())
TALK = [segment["text"] for segment in SPOKEN["talk.wav"]["segments"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("transcription")), 120) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120, _strict_response_validation=True
    ) as made:
        yield made


def ask(client: openai.OpenAI, file: Any, **fields: Any) -> Any:
    return client.audio.transcriptions.create(model="whisper-1", file=file, **fields)


@pytest.mark.parametrize("name", [name for name in SPOKEN if name.startswith("talk")])
def test_every_format_is_understood(client: openai.OpenAI, name: str) -> None:
    assert ask(client, AUDIO / name).text == " ".join(TALK)


def test_subtitles_have_a_line_for_each_sentence(client: openai.OpenAI) -> None:
    shown = ask(client, AUDIO / "talk.wav", response_format="srt").split("\n\n")
    assert [block.split("\n")[2] for block in shown if block] == TALK


def test_sentences_and_words_stand_where_they_were_said(client: openai.OpenAI) -> None:
    reply = ask(
        client,
        AUDIO / "talk.flac",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    said = [word for segment in SPOKEN["talk.flac"]["segments"] for word in segment["words"]]
    assert [word.word.strip(".") for word in reply.words] == [word["name"].strip(".") for word in said]
    assert median(abs(word.end - true["end"]) for word, true in zip(reply.words, said, strict=True)) < 0.15
    borders = [
        abs(heard - true)
        for segment, spoken in zip(reply.segments, SPOKEN["talk.flac"]["segments"], strict=True)
        for heard, true in ((segment.start, spoken["start"]), (segment.end, spoken["end"]))
    ]
    assert median(borders) < 0.3


def test_a_recording_longer_than_a_window(client: openai.OpenAI) -> None:
    """At most one word in ten is wrong; the pieces of a stream are the whole."""
    events = list(ask(client, AUDIO / "story.ogg", stream=True))
    said = plain(" ".join(segment["text"] for segment in SPOKEN["story.ogg"]["segments"]))
    heard = plain(events[-1].text)
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert len(events) > 6
    assert distance(said, heard) <= len(said) / 10


def test_text_that_came_before_does_no_harm(client: openai.OpenAI) -> None:
    prompt = "The doctor carried the yellow lamp to Oslo. Where is your brother?"
    assert ask(client, AUDIO / "talk.wav", prompt=prompt).text == " ".join(TALK)


@pytest.mark.parametrize("sound", [0 * noise(4), noise(4), 0.05 * noise(35)], ids=["silence", "noise", "long hiss"])
def test_nothing_is_heard_where_nothing_is_said(client: openai.OpenAI, sound: Any) -> None:
    assert ask(client, ("quiet.wav", io.BytesIO(file_of(sound).read()))).text == ""
