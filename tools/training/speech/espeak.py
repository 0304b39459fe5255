"""espeak-ng through its C library: samples, and when each word and phoneme was said.

A tool for making data. It is found on the machine (`libespeak-ng.so.1`); nothing that serves a model needs it.
"""

import ctypes
import ctypes.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

_SYNCHRONOUS = 2
_PHONEME_EVENTS = 0x0001
_RATE, _PITCH, _RANGE, _WORD_GAP = 1, 3, 4, 7
_END_OF_EVENTS, _WORD, _PHONEME = 0, 1, 7


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)  # fmt: skip


@dataclass(frozen=True)
class Voice:
    """How something is said. Rate in words a minute, the rest on espeak's scales."""

    name: str = "en"
    rate: int = 160
    pitch: int = 50
    range: int = 50
    gap: int = 0


@dataclass(frozen=True)
class Interval:
    """A word or a phoneme, in seconds from the start of the samples."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """What espeak said: samples (int16, mono, at `rate` Hz), the words and the phonemes in them."""

    samples: NDArray[np.int16]
    rate: int
    words: list[Interval]
    phonemes: list[Interval]


def available() -> bool:
    """Whether the library is on this machine."""
    return ctypes.util.find_library("espeak-ng") is not None


class Speaker:
    """The library, which holds one state for the whole process: take it from `speaker()`."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise OSError("libespeak-ng is not installed")
        self._library = ctypes.CDLL(name)
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if self.rate <= 0:
            raise OSError("espeak-ng did not start")
        self._samples: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, int, int, str]] = []
        self._callback: Callable[..., int] = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def _receive(
        self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type != _END_OF_EVENTS:
            event = events[index]
            if event.type in (_WORD, _PHONEME):
                name = event.id.string.decode("utf-8", "replace") if event.type == _PHONEME else ""
                self._events.append((event.type, event.audio_position, event.text_position, name))
            index += 1
        return 0

    def say(self, text: str, voice: Voice) -> Speech:
        """Say a text. Words are split at spaces; the pause espeak adds at the end is kept."""
        if voice.name != self._voice:
            if self._library.espeak_SetVoiceByName(voice.name.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {voice.name!r}")
            self._voice = voice.name
        for parameter, value in (
            (_RATE, voice.rate),
            (_PITCH, voice.pitch),
            (_RANGE, voice.range),
            (_WORD_GAP, voice.gap),
        ):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._samples, self._events = [], []
        encoded = text.encode()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, 1, None, None)
        samples = np.concatenate(self._samples)
        return Speech(samples, self.rate, *self._intervals(text, len(samples) / self.rate))

    def _intervals(self, text: str, length: float) -> tuple[list[Interval], list[Interval]]:
        sounds = [(position / 1000, name) for kind, position, _, name in self._events if kind == _PHONEME]
        ends = [start for start, _ in sounds[1:]] + [length]
        phonemes = [
            Interval(name, start, end)
            for (start, name), end in zip(sounds, ends, strict=True)
            if name.strip("_:;|'\", ") and end > start
        ]
        starts: dict[int, float] = {}
        for kind, position, place, _ in self._events:
            if kind == _WORD:
                # Places count from one; a word that espeak says in two parts starts with the first.
                starts.setdefault(text[: place - 1].count(" "), position / 1000)
        words: list[Interval] = []
        names = text.split(" ")
        heard = sorted(starts)
        for index, after in zip(heard, [*heard[1:], len(names)], strict=True):
            start, following = starts[index], starts.get(after, length)
            last = max((p.end for p in phonemes if start - 1e-6 <= p.start < following - 1e-6), default=following)
            # Small words that espeak joins to one sound ("on the") share its time by their letters.
            joined = names[index:after]
            letter = (min(last, following) - start) / sum(map(len, joined))
            for name in joined:
                words.append(Interval(name, start, start + letter * len(name)))
                start = words[-1].end
        return words, phonemes


@cache
def speaker() -> Speaker:
    """The one speaker of this process."""
    return Speaker()
