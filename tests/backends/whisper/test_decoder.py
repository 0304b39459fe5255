"""Recordings that were made to harm: what FFmpeg may spend on them, and what becomes of the next one."""

import io
import os
import resource
import signal
import struct
import time
from contextlib import closing

import av
import av.error
import numpy
import pytest
from hostile_audio import CONCAT, HLS, au, mp4, png, sdp, with_cover
from recordings import OTHERS, RATE, file_of, noise

from ark.errors import BadRequest, Unavailable, UnsupportedMediaType
from ark_backends.kit import child_process
from ark_backends.whisper import decoder as decoder_program
from ark_backends.whisper.audio import AudioDecoder


@pytest.fixture(scope="module")
def decoder():
    with closing(AudioDecoder()) as one:
        one.start()
        yield one


def seconds_of(decoder, data, **more):
    file = data if hasattr(data, "read") else io.BytesIO(data)
    return sum(len(window) for window in decoder.decode(file, **more)) / RATE


def child_of(decoder):
    with decoder._children.child() as child:
        return child.pid


def memory_of(pid):
    """Megabytes that a process has had at most."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024


def changing_rate():
    """An MP3 whose second half has another rate, and a third one that nobody speaks with."""
    return b"".join(file_of(numpy.repeat(noise(1.0), n), "mp3", RATE * n).getvalue() for n in (1, 2))


REFUSED = {
    "rate": (au(0x62003E80), BadRequest),
    "rate of one": (au(1), BadRequest),
    "rate of nothing": (au(0), UnsupportedMediaType),
    "just too high a rate": (au(192_001), BadRequest),
    "channels": (au(16_000, 64, bytes(6400)), BadRequest),
    "channels without end": (au(16_000, 0xFFFFFF, bytes(6400)), (BadRequest, UnsupportedMediaType)),
    "samples": (mp4(1 << 26), BadRequest),
    "more samples": (mp4(0xFFFFFFF0), (BadRequest, UnsupportedMediaType)),
    "picture": (png(), UnsupportedMediaType),
    "session": (sdp(), UnsupportedMediaType),
    "session of a thousand sockets": (sdp(500), UnsupportedMediaType),
    "playlist": (HLS % 9, UnsupportedMediaType),
    "script": (b"[Script Info]\nTitle: x\n[Events]\n", UnsupportedMediaType),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_small_file_costs_little(decoder, name):
    data, errors = REFUSED[name]
    decoder.start()
    before, started = child_of(decoder), time.monotonic()
    with pytest.raises(errors) as caught:
        seconds_of(decoder, data, max_seconds=7200.0)
    assert caught.value.param == "file"
    assert time.monotonic() - started < 60
    # It has taken no part of the gigabytes that it asks for.
    assert child_of(decoder) == before
    assert memory_of(before) < 200
    assert seconds_of(decoder, file_of(noise(1.0))) == 1.0


@pytest.mark.parametrize("data", [CONCAT % b"private/meeting.wav", (CONCAT % b"private/meeting.wav")[8:]])
def test_no_other_file_is_read(decoder, tmp_path, monkeypatch, data):
    """A playlist that names a recording below the directory in which the server was started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "meeting.wav").write_bytes(file_of(noise(1.0)).getvalue())
    with closing(AudioDecoder()) as fresh, pytest.raises(UnsupportedMediaType):
        seconds_of(fresh, data)


@pytest.mark.parametrize(("container", "codec"), OTHERS)
def test_formats_that_few_clients_send(decoder, container, codec):
    rate = OTHERS[container, codec]
    try:
        file = file_of(noise(rate / RATE), container, rate, codec)
    except (av.error.FFmpegError, ValueError) as error:
        pytest.skip(f"this PyAV does not write it: {error}")
    assert seconds_of(decoder, file) == pytest.approx(1.0, abs=0.15)


def test_a_recording_with_a_cover_is_decoded_and_the_cover_is_not(decoder):
    recording = with_cover(file_of(noise(2.0), "mp3").getvalue(), png())
    assert seconds_of(decoder, recording) == pytest.approx(2.0, abs=0.15)


def test_pictures_of_a_film_are_not_decoded():
    """FFmpeg would decode some to see what they are: a picture of 48 MB here."""
    with closing(AudioDecoder()) as fresh:
        # With all that a child loads when it begins, and when it refuses a film.
        assert seconds_of(fresh, file_of(noise(1.0))) == 1.0
        with pytest.raises(BadRequest, match="no audio track"):
            seconds_of(fresh, film(64))
        before = memory_of(child_of(fresh))
        with pytest.raises(BadRequest, match="no audio track"):
            seconds_of(fresh, film())
        assert memory_of(child_of(fresh)) - before < 20


def film(side=4_000):
    """A single picture, by default of 48 MB, which is small as long as it is not decoded."""
    made = io.BytesIO()
    with av.open(made, "w", format="mov") as output:
        stream = output.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = side, side, "rgb24"
        frame = av.VideoFrame(side, side, "rgb24")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return made.getvalue()


def with_streams(count):
    made = io.BytesIO()
    with av.open(made, "w", "mov") as output:
        streams = [output.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in range(count)]
        frame = av.AudioFrame(format="s16", layout="mono", samples=RATE)
        frame.rate = RATE
        for stream in streams:
            output.mux(stream.encode(frame))
    return made.getvalue()


def test_a_file_has_few_streams(decoder):
    assert seconds_of(decoder, with_streams(decoder_program.MAX_STREAMS)) == 1.0
    with pytest.raises(UnsupportedMediaType):
        seconds_of(decoder, with_streams(decoder_program.MAX_STREAMS + 1))


def test_time_is_limited_by_what_has_been_decoded(decoder):
    child, limits = child_of(decoder), []
    seconds_of(
        decoder,
        file_of(noise(200.0)),
        check=lambda: limits.append(resource.prlimit(child, resource.RLIMIT_CPU)[0]),
    )
    most = decoder_program.CPU_SECONDS + 200 / decoder_program.PACE + 60
    assert 0 < min(limits) < max(limits) < most


def test_frames_that_no_codec_of_speech_has():
    frame = av.AudioFrame(format="s16", layout="mono", samples=decoder_program.MAX_FRAME + 1)
    frame.rate = RATE
    with pytest.raises(decoder_program.Refused):
        list(decoder_program._resampled(iter([frame])))


def test_the_rate_may_change_in_the_middle(decoder):
    assert seconds_of(decoder, changing_rate()) == pytest.approx(2.0, abs=0.3)


@pytest.mark.parametrize("rate", [2_000, 7_350, 44_100, 191_999, 192_000])
def test_rates_that_recorders_have(decoder, rate):
    started = time.monotonic()
    found = seconds_of(decoder, au(rate, samples=noise(1.0).astype("<i2").tobytes()[: 2 * rate]))
    assert found == pytest.approx(min(rate, RATE) / rate, abs=0.02)
    assert time.monotonic() - started < 60


def test_more_than_is_allowed_ends_it_early_and_not_the_child(decoder):
    before = child_of(decoder)
    with pytest.raises(BadRequest, match="longer than 2 seconds"):
        seconds_of(decoder, file_of(numpy.zeros(600 * RATE, numpy.float32)), max_seconds=2.0)
    assert child_of(decoder) == before


def test_a_child_that_dies_fails_its_recording_alone(decoder):
    def kill():
        for child in decoder._children._busy:
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(BadRequest) as caught:
        seconds_of(decoder, file_of(noise(60.0)), check=kill)
    assert (caught.value.param, caught.value.code) == ("file", "invalid_audio")
    assert seconds_of(decoder, file_of(noise(1.0))) == 1.0


def test_leaving_ends_what_ffmpeg_does(decoder):
    """Stopped, the child stands for one that is busy for long."""
    os.kill(child_of(decoder), signal.SIGSTOP)
    started = time.monotonic()

    def check():
        if time.monotonic() - started > 0.2:
            raise KeyError

    with pytest.raises(KeyError):
        seconds_of(decoder, file_of(noise(1.0)), check=check)
    assert time.monotonic() - started < 60
    assert seconds_of(decoder, file_of(noise(1.0))) == 1.0


def test_leaving_in_between_does_not_end_the_child(decoder):
    before, count = child_of(decoder), 0

    def check():
        nonlocal count
        count += 1
        if count == 3:
            raise KeyError

    with pytest.raises(KeyError):
        seconds_of(decoder, file_of(noise(60.0)), check=check)
    assert child_of(decoder) == before


def test_where_no_child_can_be_started_it_is_503(monkeypatch):
    monkeypatch.setattr(child_process.sys, "executable", "/no/such/python")
    with closing(AudioDecoder()) as one, pytest.raises(Unavailable):
        seconds_of(one, file_of(noise(1.0)))


def test_a_header_that_lies_about_its_length_is_decoded(decoder):
    """What a pipe writes: the length was not known when the header was."""
    whole = bytearray(file_of(noise(2.0)).getvalue())
    whole[4:8] = struct.pack("<I", 0xFFFFFFFF)
    place = whole.index(b"data") + 4
    whole[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    assert seconds_of(decoder, bytes(whole), max_seconds=10.0) == 2.0
