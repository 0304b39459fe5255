"""What is kept of a recording while it is decoded, and that it does not grow with it."""

import tracemalloc
import wave
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import RATE, noise

pytest.importorskip("faster_whisper")

from faster_whisper import vad
from faster_whisper.feature_extractor import FeatureExtractor

from ark_backends.whisper import speech
from ark_backends.whisper.options import VadConfig, WhisperOptions
from ark_backends.whisper.recording import LONGEST_STRETCH, listen, scratch_file
from ark_backends.whisper.speech import WINDOW, find_speech

TALK = Path(__file__).parents[2] / "data" / "audio" / "talk.wav"
EXTRACTOR = FeatureExtractor()


@pytest.fixture
def scratch():
    with scratch_file() as file:
        yield file


def windows(samples, seconds=4.0):
    """As a decoder gives them."""
    whole = (numpy.clip(samples, -1, 1) * 32767).astype(numpy.int16)
    step = int(seconds * RATE)
    return [whole[start : start + step] for start in range(0, len(whole), step)]


def heard(parts):
    return numpy.concatenate(parts).astype(numpy.float32) / 32768


@pytest.mark.parametrize("seconds", [0.0001, 0.01, 1.0, 59.9, 60.0, 60.01, 60.02, 61.7, 150.0])
def test_features_are_those_of_faster_whisper(scratch, seconds):
    parts, steps = windows(noise(seconds)), []
    recording = listen(parts, EXTRACTOR, WhisperOptions(), scratch, lambda: steps.append(1))
    expected = EXTRACTOR(heard(parts))
    assert recording.duration == len(heard(parts)) / RATE
    assert recording.features.shape == expected.shape
    for start in range(0, expected.shape[1], 3000):
        numpy.testing.assert_allclose(
            recording.features[:, start : start + 3000], expected[:, start : start + 3000], atol=2e-5
        )
    assert len(steps) == (0 if seconds <= 60 else -(-expected.shape[1] // 6000))


def test_features_are_cut_as_an_array_is(scratch):
    parts = windows(noise(150.0))
    found = listen(parts, EXTRACTOR, WhisperOptions(), scratch).features
    expected = EXTRACTOR(heard(parts))
    rest = found[..., 2000:]
    assert rest.shape == expected[..., 2000:].shape
    numpy.testing.assert_allclose(rest[..., :3000], expected[..., 2000:5000], atol=2e-5)
    numpy.testing.assert_allclose(rest[:, 12_900:99_999], expected[:, 14_900:], atol=2e-5)
    assert found[:, 20_000:21_000].shape == (80, 0)


@pytest.mark.parametrize("options", [WhisperOptions(), WhisperOptions(vad=True)], ids=["whole", "vad"])
def test_memory_does_not_grow_with_the_recording(monkeypatch, options):
    monkeypatch.setattr(speech, "_BATCH", 1000 * WINDOW)

    def peak(minutes):
        part = windows(noise(4.0))[0]
        with scratch_file() as file:
            tracemalloc.start()
            listen((part for _ in range(minutes * 15)), EXTRACTOR, options, file)
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return most

    peak(1)
    # Enough for the file to leave memory, and four times that.
    assert peak(20) < 1.2 * peak(5)


CONFIGS = st.builds(
    VadConfig,
    threshold=st.sampled_from([0.1, 0.5, 0.9]),
    min_speech_duration_ms=st.sampled_from([0, 31, 250]),
    min_silence_duration_ms=st.sampled_from([0, 30, 33, 100, 2000]),
    speech_pad_ms=st.sampled_from([0, 30, 400]),
)


@settings(max_examples=200, deadline=None)
@given(
    CONFIGS, st.lists(st.tuples(st.sampled_from([0.0, 0.3, 0.42, 0.6, 1.0]), st.integers(1, 20))), st.integers(1, 511)
)
def test_speech_is_found_where_faster_whisper_finds_it(options, runs, more):
    likely = numpy.array([p for p, count in runs for _ in range(count)] + [0.6], numpy.float32)
    length = (len(likely) - 1) * WINDOW + more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vad, "get_vad_model", lambda: lambda _: likely)
        given = vad.VadOptions(**{name: getattr(options, name) for name in options.__struct_fields__})
        expected = vad.get_speech_timestamps(numpy.zeros(length, numpy.float32), given)
    assert [vars(piece) for piece in find_speech(likely, length, options)] == expected


def test_speech_is_detected_in_pieces_as_in_one(scratch):
    """Longer than what is judged in one pass, with the beginning of each pass in the middle of a window."""
    with wave.open(str(TALK)) as file:
        talk = numpy.frombuffer(file.readframes(file.getnframes()), "<i2") / numpy.float32(32768)
    parts = windows(numpy.tile(numpy.pad(talk, (0, 3 * RATE)), 37), seconds=3.77)
    options = WhisperOptions(vad=VadConfig(min_silence_duration_ms=100))
    recording = listen(parts, EXTRACTOR, options, scratch)
    given = vad.VadOptions(min_silence_duration_ms=100)
    expected = vad.get_speech_timestamps(heard(parts), given)
    assert len(expected) > 37
    assert [vars(piece) for piece in recording.speech] == expected
    assert recording.samples == len(heard(parts))
    spoken = heard(parts)
    spoken = numpy.concatenate([spoken[one["start"] : one["end"]] for one in expected] or [spoken[:0]])
    assert recording.features.shape == EXTRACTOR(spoken).shape


def test_windows_that_are_computed_together_are_read_in_stretches(scratch):
    parts = windows(noise(9.0))
    recording = listen(parts, EXTRACTOR, WhisperOptions(batch=2), scratch)
    assert recording.features is None
    (whole,) = recording.stretches
    numpy.testing.assert_array_equal(whole.read(), heard(parts))


def test_stretches_are_cut_where_it_is_quiet(scratch):
    rng = numpy.random.default_rng(1)
    loud = [rng.integers(-9000, 9000, 4 * RATE).astype(numpy.int16) for _ in range(500)]
    # A pause of a second in the last minute before the first cut, and none before the second.
    loud[143][RATE : 2 * RATE] //= 1000
    recording = listen(loud, EXTRACTOR, WhisperOptions(batch=2), scratch)
    assert recording.samples == 500 * 4 * RATE
    first, *others = recording.stretches
    assert 0 < first.end - (143 * 4 + 1) * RATE < RATE
    assert [one.start for one in others] == [one.end for one in recording.stretches[:-1]]
    assert others[-1].end == recording.samples
    assert all(one.end - one.start <= LONGEST_STRETCH + 4 * RATE for one in recording.stretches)
    numpy.testing.assert_array_equal(numpy.concatenate([one.read() for one in recording.stretches]), heard(loud))
