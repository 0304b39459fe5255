"""Windows of clips, as the model reads them and with all it is to learn about them.

A window is put together in the power domain: clips with a gain and a colour each, pauses between them, noise under
them. Positions are the encoder's, of 20 ms. A short window stands anywhere in the 30 seconds: its timestamps say where.
"""

import random
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.training.speech import features
from tools.training.speech.clips import Clip, word_label
from tools.training.speech.tokenizer import TIMES, Vocabulary

Array = NDArray[np.float32]
CONTEXT = 448
PROMPT = 223
"""The most tokens of previous text that faster-whisper gives."""


@dataclass(frozen=True)
class Shape:
    """What kind of window is made; lengths in frames of 10 ms."""

    frames: int
    packed: float
    """The share of windows that are full of sentences; the others hold one to three and then nothing."""
    prompted: float = 0.35
    timeless: float = 0.2
    silent: float = 0.07


SHORT = Shape(frames=800, packed=0.75, prompted=0.0, timeless=0.2)
FULL = Shape(frames=features.FRAMES, packed=0.7)


@dataclass
class Script:
    """Decoder tokens, and for each what the token after it should be and where it is heard."""

    ids: list[int] = field(default_factory=list)
    heard: list[tuple[int, int]] = field(default_factory=list)
    """Where each token of `ids` is heard, as a range of positions; empty where it is not."""
    first: int = 0
    """Where the prompt ends: what stands before it is not learned."""
    instead: dict[int, int] = field(default_factory=dict)
    """What is to be learned at a place of `ids`, where that differs from what stands there."""

    def add(self, token: int, begin: int = 0, end: int = 0) -> None:
        self.ids.append(token)
        self.heard.append((begin, end))


@dataclass(frozen=True)
class Batch:
    """Windows of one length. B windows, L tokens, T positions, K things to learn."""

    mel: Tensor
    """(B, 80, 2T)"""
    offset: int
    """The position of the window's begin within 30 seconds."""
    ids: Tensor
    """(B, L)"""
    where: Tensor
    """(K,) flat places in (B, L)"""
    targets: Tensor
    weights: Tensor
    spans: Tensor
    """(B, L, 2) where each token of `ids` is heard; end is zero where it is not."""
    phonemes: Tensor
    """(B, T) classes; also `words` and `before`, the word before the one that is said, -100 where there is none."""
    words: Tensor
    before: Tensor


@cache
def _hiss() -> tuple[Array, Array]:
    """A minute of white noise as it looks in features: its power around 1, and how it meets another sound.

    Both (frames, 80). Windows of 25 ms every 10 ms overlap, so that a burst of noise lasts for some frames, as a sound
    does: noise that is drawn frame by frame looks smoother to the model than any real one. The second is the cosine
    between two sounds, summed over the lines of a band, in [-1, 1].
    """
    rng = np.random.default_rng(0)
    one, other = (features.spectra(rng.standard_normal(60 * features.RATE).astype(np.float32)) for _ in range(2))
    bands = features.filters().T
    power, second = (np.abs(one) ** 2) @ bands, (np.abs(other) ** 2) @ bands
    meeting = ((one * other.conj()).real @ bands) / np.sqrt(power * second)
    return (power / power.mean(0)).astype(np.float32), meeting.astype(np.float32)


def _minute(rng: np.random.Generator, minute: Array, frames: int) -> Array:
    """Some frames of a minute that begins anywhere and repeats."""
    part: Array = np.take(minute, np.arange(frames) + rng.integers(len(minute)), axis=0, mode="wrap")
    return part


def noise(rng: np.random.Generator, frames: int, loudest: float = -2.6) -> Array:
    """The power of noise of a random colour and a strength of up to 10 ** `loudest`, (frames, 80)."""
    level = 10.0 ** rng.uniform(-6.0, loudest)
    bands = np.arange(features.BANDS)
    colour = 10.0 ** (rng.uniform(-2.5, 0.7) * bands / features.BANDS + 0.3 * np.sin(bands / rng.uniform(4, 20)))
    power: Array = (level * colour * _minute(rng, _hiss()[0], frames)).astype(np.float32)
    return power


def together(rng: np.random.Generator, power: Array, other: Array) -> Array:
    """The power of two sounds at once, (frames, 80): here louder than both together, there nearly silent."""
    meeting = _minute(rng, _hiss()[1], len(power))
    both: Array = np.maximum(power + other + 2 * meeting * np.sqrt(power * other), 0)
    return both


def wordless(rng: np.random.Generator, frames: int) -> Array:
    """The power of tones that come and go, or of clicks, (frames, 80)."""
    samples = np.zeros(frames * features.HOP, np.float32)
    if rng.random() < 0.5:
        rate = 10.0 ** rng.uniform(-0.5, 1.0) / features.RATE
        samples[rng.random(len(samples)) < rate] = rng.uniform(0.05, 0.9)
    else:
        for _ in range(rng.integers(1, 4)):
            begin, end = sorted(rng.integers(0, len(samples), 2)) if rng.random() < 0.5 else (0, len(samples))
            angle = 2 * np.pi * rng.uniform(80, 4000) / features.RATE * np.arange(end - begin)
            samples[begin:end] += (rng.uniform(0.02, 0.4) * np.sin(angle)).astype(np.float32)
    return features.powers(samples)[:frames]


def _coloured(rng: np.random.Generator, clip: Clip) -> Array:
    """A clip's power with a gain and a smooth filter."""
    bands = np.arange(features.BANDS) / features.BANDS
    shift = np.full(features.BANDS, rng.uniform(-1.2, 0.3))
    if rng.random() < 0.5:
        shift += rng.uniform(-0.8, 0.8) * (bands - 0.5)
        shift += 0.2 * np.sin(rng.uniform(2, 9) * bands + rng.uniform(0, 6))
    power: Array = np.power(10.0, clip.power + shift.astype(np.float32), dtype=np.float32)
    return power


@dataclass
class _Window:
    """A window in the making: power (frames, 80), labels (3, frames), and the last word that was said."""

    power: Array
    labels: NDArray[np.int64]
    script: Script = field(default_factory=Script)
    previous: int = 0


class Maker:
    """Makes windows from a stock of clips."""

    def __init__(self, vocabulary: Vocabulary, stock: list[Clip], seed: str) -> None:
        self.vocabulary = vocabulary
        self.stock = stock
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(self.rng.getrandbits(64))

    def _time(self, position: int) -> int:
        return self.vocabulary.first_time + min(max(position, 0), TIMES - 1)

    def _prompt(self, script: Script) -> None:
        """Text of before, with timestamps as a long transcription has it, or without."""
        rng, v = self.rng, self.vocabulary
        tokens: list[int] = []
        timed = rng.random() < 0.6
        wanted = rng.choice((10, 30, 100, PROMPT, PROMPT))
        position = rng.randint(0, 60)
        while len(tokens) < wanted:
            clip = rng.choice(self.stock)
            text = [token for word in v.words(clip.text) for token in word]
            length = len(clip.power) // 2
            if position + length > 1500:
                position = rng.randint(0, 60)
            times = [self._time(position)], [self._time(position + length)]
            tokens += times[0] + text + times[1] if timed else text
            position += length + rng.randint(0, 50)
        script.add(v.previous)
        for token in tokens[-PROMPT:] if rng.random() < 0.7 else tokens[:wanted]:
            script.add(token)

    def _sentence(self, script: Script, clip: Clip, begin: int, timed: bool) -> None:
        """A clip that starts at frame `begin` of the 30 seconds."""
        times = np.round((clip.words + begin) / 2).astype(int)
        start, end = int(times[0, 0]), int(times[-1, 1])
        if timed:
            script.add(self._time(start), max(start - 4, 0), start + 4)
        for (low, high), tokens in zip(times.tolist(), self.vocabulary.words(clip.text), strict=True):
            script.add(tokens[0], low, max(high, low + 1))
            for token in tokens[1:]:
                script.add(token, max(high - 3, 0), high + 4)
        if timed:
            script.add(self._time(end), max(end - 4, 0), end + 4)

    def _heard(self, made: _Window, clip: Clip, at: int) -> None:
        """Sound and labels of a clip from frame `at` on, as far as the window goes."""
        shown = min(len(clip.power), len(made.power) - at)
        made.power[at : at + shown] += _coloured(self.numbers, clip)[:shown]
        made.labels[0, at : at + shown] = clip.phonemes[:shown]
        for word, (low, high) in zip(clip.text.split(" "), clip.words.round().astype(int).tolist(), strict=True):
            label = word_label(word)
            made.labels[1, at + low : at + high] = label
            made.labels[2, at + low : at + high] = made.previous
            made.previous = label

    def _fill(self, made: _Window, most: int, offset: int, timed: bool) -> int:
        """Put up to `most` clips into a window; where the last one ends, in frames."""
        rng, script = self.rng, made.script
        frames = len(made.power)
        pause = rng.choice((20, 40, 80, 150)) if rng.random() < 0.9 else 400
        at = rng.randint(0, 10) if rng.random() < 0.3 else rng.randint(0, 2 * pause)
        for _ in range(most):
            clip = rng.choice(self.stock)
            fits = at + len(clip.power) <= frames
            # A sentence that the window cuts: its start is said, and no more. Too little of it would not be noticed.
            if not fits and (not timed or at + 60 > frames or rng.random() < 0.3):
                break
            self._heard(made, clip, at)
            if not fits:
                start = round((clip.words[0, 0] + at) / 2) + offset
                script.add(self._time(start), max(start - 4, 0), start + 4)
                return frames
            self._sentence(script, clip, at + 2 * offset, timed)
            at += len(clip.power) + rng.randint(8, pause)
        return at

    def _features(self, power: Array, end: int, silent: bool) -> Array:
        """What the model reads of a window whose sound ends at frame `end`, with noise under it."""
        rng = self.rng
        if silent and rng.random() < 0.5:
            power[:end] = wordless(self.numbers, end)
        if rng.random() < (0.9 if silent else 0.8):
            heard = noise(self.numbers, end, loudest=-0.5 if silent else -2.4)
            power[:end] = together(self.numbers, power[:end], heard)
        loudest = None
        if silent or rng.random() < 0.3:
            # The loudest sound of the recording may stand in another window.
            peak = float(np.log10(max(float(power.max()), 1e-10)))
            loudest = peak + rng.uniform(0, 4.0 if silent and rng.random() < 0.5 else 1.0)
        mel = features.scaled(power, loudest)
        if end < len(power) and rng.random() < 0.7:
            # faster-whisper pads features, transformers pads samples.
            mel[end:] = 0.0
        return mel

    def window(self, shape: Shape, offset: int) -> tuple[Array, Script, NDArray[np.int64]]:
        """Features (frames, 80), tokens, and (3, frames // 2) labels: phoneme, word, word before."""
        rng, v = self.rng, self.vocabulary
        made = _Window(np.zeros((shape.frames, features.BANDS), np.float32), np.zeros((3, shape.frames), np.int64))
        made.labels[2] = -100
        script = made.script
        if rng.random() < shape.prompted:
            self._prompt(script)
        script.first = len(script.ids)
        script.add(v.start)
        timed = rng.random() >= shape.timeless
        if not timed:
            script.add(v.no_times)
        silent = timed and rng.random() < shape.silent
        packed = rng.random() < shape.packed
        at = self._fill(made, 0 if silent else 99 if packed else rng.randint(1, 3), offset, timed)
        if silent:
            script.add(self._time(offset))
        script.add(v.end)
        first = script.first + 1
        if offset == 0 and timed and script.ids[first] > self._time(50) and rng.random() < 0.6:
            # Decoders allow no first timestamp after one second: speech that begins later follows this one.
            script.instead[first] = script.ids[first]
            script.ids[first] = self._time(50)
        sound = shape.frames if packed or silent else max(at, 100)
        end = min(shape.frames, sound + rng.choice((0, 0, 0, 50, 300, 3000)))
        return self._features(made.power, end, silent), script, made.labels[:, ::2]

    def batch(self, shape: Shape, count: int) -> Batch:
        """Some windows at one offset."""
        v = self.vocabulary
        positions = shape.frames // 2
        offset = 0 if shape.frames == features.FRAMES else self.rng.randint(0, 1500 - positions)
        made = [self.window(shape, offset) for _ in range(count)]
        scripts = [script for _, script, _ in made]
        longest = min(CONTEXT, -(-max(len(s.ids) for s in scripts) // 32) * 32)
        ids = torch.full((count, longest), v.end)
        spans = torch.zeros((count, longest, 2), dtype=torch.long)
        learned: list[tuple[int, int, float]] = []
        for row, script in enumerate(scripts):
            size = min(len(script.ids), longest)
            ids[row, :size] = torch.tensor(script.ids[:size])
            spans[row, :size] = torch.tensor(script.heard[:size])
            for place in range(script.first, size - 1):
                learned += [(row * longest + place, *goal) for goal in self._goals(script, place)]
        where, targets, weights = zip(*learned, strict=True)
        spans = (spans - offset).clamp(0, positions)
        labels = torch.from_numpy(np.stack([label for _, _, label in made]))
        return Batch(
            mel=torch.from_numpy(np.stack([mel for mel, _, _ in made])).transpose(1, 2).contiguous(),
            offset=offset,
            ids=ids,
            where=torch.tensor(where),
            targets=torch.tensor(targets),
            weights=torch.tensor(weights),
            spans=spans,
            phonemes=labels[:, 0],
            words=labels[:, 1],
            before=labels[:, 2],
        )

    def _goals(self, script: Script, place: int) -> list[tuple[int, float]]:
        """What should follow a token: itself, or a time and its neighbours, or silence."""
        v = self.vocabulary
        following = script.instead.get(place + 1, script.ids[place + 1])
        if following == v.no_times:
            return []
        if following < v.first_time:
            return [(following, 1.0)]
        if script.ids[place] == v.start and script.ids[place + 2] == v.end and script.heard[place + 1] == (0, 0):
            return [(v.no_speech, 0.8), (following, 0.2)]
        near = ((-2, 0.06), (-1, 0.22), (0, 0.44), (1, 0.22), (2, 0.06))
        return [(self._time(following - v.first_time + shift), share) for shift, share in near]
