"""What is sound, what is not, and how much of it is taken."""

import io
import wave
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import CONTAINERS, RATE, file_of, noise, picture

from ark.errors import BadRequest, UnsupportedMediaType
from ark_backends.whisper.audio import AudioDecoder

DATA = Path(__file__).parents[2] / "data" / "audio"


@pytest.fixture(scope="module", autouse=True)
def decoder():
    with closing(AudioDecoder()) as one:
        decode.with_ = one
        yield one


def decode(file, **more):
    """The whole, as numbers from -1 to 1."""
    windows = list(decode.with_.decode(file, **more))
    assert all(window.dtype == numpy.int16 for window in windows)
    return numpy.concatenate(windows).astype(numpy.float32) / 32768


def raw_wav(samples: bytes, *, rate: int = RATE, width: int = 2, channels: int = 1) -> io.BytesIO:
    made = io.BytesIO()
    with wave.open(made, "wb") as output:
        output.setnchannels(channels)
        output.setsampwidth(width)
        output.setframerate(rate)
        output.writeframes(samples)
    made.seek(0)
    return made


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_formats(container, rate):
    seconds = 1.5
    samples = numpy.repeat(noise(seconds), rate // RATE)
    audio = decode(file_of(samples, container, rate))
    assert audio.dtype == numpy.float32
    # Codecs with losses have frames of their own length at both ends.
    assert len(audio) / RATE == pytest.approx(seconds, abs=0.15)
    assert 0.1 < audio.std() < 0.3


def test_no_sample_is_lost_or_changed():
    samples = noise(2.0)
    audio = decode(file_of(samples))
    numpy.testing.assert_allclose(audio, numpy.trunc(numpy.clip(samples, -1, 1) * 32767) / 32768, atol=1e-6)


@pytest.mark.parametrize("name", ["talk.wav", "talk.mp3", "talk.ogg", "talk.flac", "talk.webm", "talk.m4a"])
def test_the_files_that_clients_send(name):
    with (DATA / name).open("rb") as file:
        assert len(decode(file)) / RATE == pytest.approx(7.68, abs=0.15)


def test_channels_are_mixed():
    left, right = numpy.full(RATE, 8000, "<i2"), numpy.full(RATE, -8000, "<i2")
    audio = decode(raw_wav(numpy.stack([left, right], 1).tobytes(), channels=2))
    assert len(audio) == RATE
    assert abs(audio).max() < 0.01


@pytest.mark.parametrize("data", [b"", b"hello", b"RIFF", b"\x00" * 5000, b"%PDF-1.7 " * 100])
def test_what_is_not_audio(data):
    with pytest.raises(UnsupportedMediaType) as caught:
        decode(io.BytesIO(data))
    assert caught.value.param == "file"
    assert caught.value.status == 415


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_header_that_breaks_off(container):
    whole = file_of(noise(1.0), container).getvalue()
    with pytest.raises((UnsupportedMediaType, BadRequest)):
        decode(io.BytesIO(whole[:20]))


def test_a_film_without_sound():
    with pytest.raises(BadRequest, match="no audio track"):
        decode(picture("mp4", "mpeg4"))


def test_no_samples():
    with pytest.raises(BadRequest, match="no sound"):
        decode(raw_wav(b""))


@pytest.mark.parametrize("container", ["wav", "flac", "mp3", "ogg", "webm"])
def test_a_recording_that_breaks_off_gives_its_beginning(container):
    whole = file_of(noise(4.0), container).getvalue()
    audio = decode(io.BytesIO(whole[: len(whole) // 2]))
    assert 0.5 < len(audio) / RATE < 3.5


def test_broken_packets_are_left_out():
    whole = bytearray(file_of(noise(4.0), "mp3").getvalue())
    middle = len(whole) // 2
    whole[middle : middle + 2000] = b"\x55" * 2000
    assert 3.0 < len(decode(io.BytesIO(whole))) / RATE < 4.5


def test_a_long_recording_is_refused_before_it_is_decoded():
    """The limit holds while decoding: of ten minutes at a limit of two seconds hardly more is read."""
    read = 0

    class Counted(io.BytesIO):
        def read(self, size=-1):
            nonlocal read
            data = super().read(size)
            read += len(data)
            return data

    whole = file_of(numpy.zeros(600 * RATE, numpy.float32)).getvalue()
    with pytest.raises(BadRequest, match="longer than 2 seconds") as caught:
        decode(Counted(whole), max_seconds=2.0)
    assert caught.value.param == "file"
    assert read < len(whole) / 10


def test_exactly_the_limit_is_taken():
    assert len(decode(file_of(noise(2.0)), max_seconds=2.0)) == 2 * RATE


def test_what_the_check_raises_ends_it():
    count = 0

    def check():
        nonlocal count
        count += 1
        if count == 3:
            raise KeyError

    with pytest.raises(KeyError):
        decode(file_of(noise(30.0), "ogg"), check=check)
    assert count == 3


@cache
def a_second(container):
    return file_of(noise(1.0), container).getvalue()


@settings(max_examples=60)
@given(
    container=st.sampled_from(sorted(CONTAINERS)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=20),
)
def test_garbled_files_give_sound_or_a_clear_error(container, cut, flips):
    data = bytearray(a_second(container))
    for place, value in flips:
        data[int(place * len(data))] = value
    try:
        audio = decode(io.BytesIO(data[: int(cut * len(data))]), max_seconds=5.0)
    except (UnsupportedMediaType, BadRequest):
        return
    assert 0 < len(audio) <= 5 * RATE
    assert numpy.isfinite(audio).all()
