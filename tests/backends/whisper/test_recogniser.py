"""What goes into the model and comes out of it."""

import wave
from pathlib import Path

import numpy
import pytest
from recordings import RATE, file_of, noise

from ark.engines.transcription import TranscriptionInfo, TranscriptionJob
from ark.errors import BadRequest

pytestmark = pytest.mark.anyio

TALK = Path(__file__).parents[2] / "data" / "audio" / "talk.wav"


async def run(backend, samples, **more):
    job = TranscriptionJob(request_id="test", audio=file_of(samples), **({"temperature": 0.0} | more))
    results = [result async for result in backend.transcribe(job)]
    return results[0], results[1:]


async def test_segments_have_all_of_openais_fields(english, opened):
    async with opened(english, engine={"max_new_tokens": 40}) as backend:
        info, segments = await run(backend, noise(35.0), words=True)
    assert info == TranscriptionInfo(language="en", duration=35.0)
    assert segments
    assert [segment.id for segment in segments] == list(range(len(segments)))
    for segment in segments:
        assert 0 <= segment.start <= segment.end <= 35.0
        assert segment.text.strip()
        assert segment.tokens
        assert segment.avg_logprob < 0
        assert all(type(word.start) is float and type(word.end) is float for word in segment.words)
        assert all(word.start <= word.end for word in segment.words)


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 0.1, 29.99, 30.0, 30.01])
async def test_lengths_round_a_window(english, opened, seconds):
    async with opened(english) as backend:
        info, _ = await run(backend, noise(max(seconds, 1 / 16_000)))
    assert info.duration == pytest.approx(seconds, abs=1e-4)


async def test_silence(english, opened):
    async with opened(english) as backend:
        assert (await run(backend, numpy.zeros(16_000, numpy.float32)))[0].duration == 1.0
    async with opened(english, engine={"vad": True}) as backend:
        assert (await run(backend, numpy.zeros(16_000, numpy.float32)))[1] == []
    async with opened(english, engine={"batch": 2}) as backend:
        assert (await run(backend, numpy.zeros(40 * 16_000, numpy.float32)))[1] == []


@pytest.mark.parametrize(
    "prompt", ["Anna, Bert", "word " * 5000, "<|endoftext|><|startoftranscript|>" * 50, "\ud83d", "\x00 \x07", "   "]
)
@pytest.mark.parametrize("batch", [1, 2])
async def test_prompts(english, opened, prompt, batch):
    async with opened(english, engine={"batch": batch, "max_new_tokens": 220}) as backend:
        assert (await run(backend, noise(0.5), prompt=prompt))[0].duration == 0.5


async def test_stretches_of_a_long_recording_are_one_recording(english, opened, monkeypatch):
    from ark_backends.whisper import recording

    with wave.open(str(TALK)) as file:
        talk = numpy.frombuffer(file.readframes(file.getnframes()), "<i2") / numpy.float32(32768)
    talk = numpy.tile(numpy.pad(talk, (0, RATE)), 1 + 100 * RATE // len(talk))
    monkeypatch.setattr(recording, "LONGEST_STRETCH", 40 * RATE)
    monkeypatch.setattr(recording, "_CUT_WITHIN", 10 * RATE)
    async with opened(english, engine={"batch": 2, "max_new_tokens": 8}) as backend:
        info, segments = await run(backend, talk, words=True)
    assert info.duration == pytest.approx(len(talk) / RATE, abs=0.01)
    assert {int(segment.start // 40) for segment in segments} == {0, 1, 2}
    places = [(segment.start, segment.seek / 100) for segment in segments]
    assert places == sorted(places)
    assert all(seek <= start + 0.02 for start, seek in places)
    assert [segment.id for segment in segments] == list(range(len(segments)))


async def test_special_tokens_in_a_prompt_are_text(english, opened):
    async with opened(english) as backend:
        tokenizer = backend._engine._model.hf_tokenizer
        ids = tokenizer.encode(" <|endoftext|>", add_special_tokens=False).ids
        assert tokenizer.token_to_id("<|endoftext|>") not in ids


async def test_a_prompt_is_heard(english, opened):
    async with opened(english, engine={"max_new_tokens": 30}) as backend:
        without = await run(backend, noise(3.0))
        with_prompt = await run(backend, noise(3.0), prompt="Anna bought seven green apples.")
    assert [one.avg_logprob for one in without[1]] != [one.avg_logprob for one in with_prompt[1]]


async def test_the_language_is_found(multilingual, opened):
    async with opened(multilingual) as backend:
        info, _ = await run(backend, noise(1.0))
        assert info.language in ("en", "de", "fr")
        assert (await run(backend, noise(1.0), language="fr"))[0].language == "fr"
        assert (await run(backend, noise(1.0), language="fr", task="translate"))[0].language == "fr"


async def test_a_language_that_is_not_known(english, opened):
    async with opened(english) as backend:
        with pytest.raises(BadRequest, match="'de'") as caught:
            await run(backend, noise(1.0), language="de")
        assert caught.value.param == "language"
        assert backend.status().waiting == 0


async def test_temperatures(english, opened):
    async with opened(english, engine={"max_new_tokens": 20}) as backend:
        _, fixed = await run(backend, noise(1.0), temperature=0.4)
        assert {segment.temperature for segment in fixed} <= {0.4}
        # A random model is sure of nothing, so that every temperature is tried.
        _, ladder = await run(backend, noise(1.0), temperature=None)
        assert {segment.temperature for segment in ladder} <= {1.0}


def test_a_segment_alone_in_its_window_starts_where_the_model_says(english):
    from ark_backends.whisper.recogniser import Recogniser

    model = Recogniser(str(english), device="cpu", compute_type="int8", cpu_threads=1)

    class Tokens:
        timestamp_begin = 1000

    def split(tokens):
        return model._split_segments_by_timestamps(
            tokenizer=Tokens, tokens=tokens, time_offset=60.0, segment_size=3000, segment_duration=30.0, seek=6000
        )

    segments, seek, _ = split([1040, 5, 6, 1200])
    assert [(one["start"], one["end"]) for one in segments] == [(60.8, 64.0)]
    assert seek == 9000
    # Without any timestamp it is the whole window, as far as anybody knows.
    assert [(one["start"], one["end"]) for one in split([5, 6])[0]] == [(60.0, 90.0)]
    assert [one["start"] for one in split([1000, 5, 1100])[0]] == [60.0]
