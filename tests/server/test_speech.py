"""Real recordings of real speech, heard by the default speech model over a real server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jiwer
import openai
import pytest

pytest.importorskip("faster_whisper")

from fixture_models import only
from recordings import file_of, noise
from running import Running, serve

from ark.app import create_app

AUDIO = Path(__file__).parents[1] / "data" / "audio"
SPOKEN = json.loads((AUDIO / "spoken.json").read_text())
"""What is read in the recordings: sentences of 'Sense and Sensibility', read for LibriVox, in the public domain."""

PLAIN = jiwer.Compose(
    [
        jiwer.SubstituteRegexes({"-": " "}),
        jiwer.RemovePunctuation(),
        jiwer.ToLowerCase(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("transcription")), 300) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120, _strict_response_validation=True
    ) as made:
        yield made


def ask(client: openai.OpenAI, file: Any, **fields: Any) -> Any:
    return client.audio.transcriptions.create(model="whisper-1", file=file, **fields)


def errors(sentences: Sequence[dict[str, Any]], heard: str) -> float:
    """The share of words that are wrong."""
    said = " ".join(sentence["text"] for sentence in sentences)
    return float(jiwer.wer(said, heard, reference_transform=PLAIN, hypothesis_transform=PLAIN))


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "webm", "m4a"])
def test_every_format_is_understood(client: openai.OpenAI, kind: str) -> None:
    """Two short sentences of 16 words, of which two may be wrong."""
    assert errors(SPOKEN["talk"], ask(client, AUDIO / f"talk.{kind}").text) <= 2 / 16


def test_a_recording_longer_than_a_window(client: openai.OpenAI) -> None:
    """At most one word in twenty is wrong; the pieces of a stream are the whole."""
    events = list(ask(client, AUDIO / "story.ogg", stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text
    assert len(events) > 4
    assert errors(SPOKEN["story"], events[-1].text) <= 0.05


def test_sentences_and_words_stand_where_they_are_read(client: openai.OpenAI) -> None:
    reply = ask(
        client,
        AUDIO / "talk.flac",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    words = [word for sentence in SPOKEN["talk"] for word in sentence["words"]]
    heard = {word.word.strip(".").lower(): word for word in reply.words}
    both = [(word, heard[word["name"]]) for word in words if word["name"] in heard and word["name"] != "he"]
    assert len(both) >= 11
    assert median(abs(one.end - word["end"]) for word, one in both) < 0.15
    for segment, sentence in zip(reply.segments, SPOKEN["talk"], strict=True):
        assert abs(segment.start - sentence["start"]) < 0.5
        assert abs(segment.end - sentence["end"]) < 0.5


def test_subtitles_have_a_line_for_each_sentence(client: openai.OpenAI) -> None:
    shown = ask(client, AUDIO / "talk.wav", response_format="srt").split("\n\n")
    lines = [block.split("\n")[2] for block in shown if block]
    assert lines[0] == SPOKEN["talk"][0]["text"]
    assert len(lines) == 2


def test_text_that_came_before_does_no_harm(client: openai.OpenAI) -> None:
    prompt = "The family of Dashwood had long been settled in Sussex."
    assert errors(SPOKEN["talk"], ask(client, AUDIO / "talk.wav", prompt=prompt).text) <= 2 / 16


@pytest.mark.parametrize("sound", [0 * noise(4), noise(4)], ids=["silence", "noise"])
def test_nothing_is_heard_where_nothing_is_said(client: openai.OpenAI, sound: Any) -> None:
    assert ask(client, ("quiet.wav", io.BytesIO(file_of(sound).read()))).text == ""


def test_times_are_no_longer_than_they_need_be(client: openai.OpenAI) -> None:
    """8.98 and not 8.980000000000004: milliseconds at most."""
    reply = client.audio.transcriptions.with_raw_response.create(
        model="whisper-1",
        file=AUDIO / "story.ogg",
        response_format="verbose_json",
        timestamp_granularities=["segment", "word"],
    )
    body = json.loads(reply.text, parse_float=str)
    times = [one[name] for kind in ("segments", "words") for one in body[kind] for name in ("start", "end")]
    assert len(times) > 60
    assert not [time for time in times if len(str(time).partition(".")[2]) > 3]
