"""Recordings to examine the model with: sentences that were held out, in voices it knows and in others."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tools.training.speech import clips, features, sentences
from tools.training.speech.espeak import speaker
from tools.training.speech.lexicon import Split

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Topic:
    """What is measured. Goals are shares of words, or seconds where the name says so; zero is none."""

    name: str
    goal: float
    count: int
    length: float = 0.0
    """Seconds to fill with sentences; zero is one sentence."""
    speakers: Split = "train"
    prompt: bool = False
    strings: float = 0.0
    noise: float = 0.5
    """The share of recordings with noise."""


TOPICS = (
    Topic("single sentences", 0.05, 200),
    Topic("single sentences, with a prompt", 0.08, 100, prompt=True),
    Topic("30 s windows", 0.10, 96, 28.5),
    Topic("30 s windows, with a prompt", 0.08, 48, 28.5, prompt=True),
    Topic("two minutes", 0.10, 16, 120.0),
    Topic("single sentences, speakers never heard", 0.0, 100, speakers="held_out"),
    Topic("strings of words without sense", 0.0, 60, strings=1.0),
)


@dataclass
class Recording:
    """Samples at 16 kHz and what is said in them: sentences and words with (start, end) in seconds."""

    samples: Array
    sentences: list[str] = field(default_factory=list)
    segments: list[tuple[float, float]] = field(default_factory=list)
    words: list[tuple[str, float, float]] = field(default_factory=list)
    prompt: str | None = None


def _noise(rng: np.random.Generator, count: int) -> Array:
    """White or low noise, 25 to 45 dB under full scale."""
    white = rng.standard_normal(count)
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(white)
        white = np.fft.irfft(spectrum / np.sqrt(1 + np.arange(len(spectrum)) / 200), count)
    level = 10 ** (rng.uniform(-45, -25) / 20)
    scaled: Array = (0.3 * level * white / white.std()).astype(np.float32)
    return scaled


def record(rng: random.Random, topic: Topic) -> Recording:
    """One recording of a topic; all of its sentences are in one voice."""
    voice = clips.voice(rng, topic.speakers)
    numbers = np.random.default_rng(rng.getrandbits(64))
    parts = [np.zeros(round(rng.uniform(0.05, 0.8) * features.RATE), np.float32)]
    made = Recording(parts[0])
    while True:
        text = sentences.sentence(rng, "held_out", topic.strings)
        speech = speaker().say(text, voice)
        samples = clips.samples_16k(speech)
        begin = sum(map(len, parts)) / features.RATE
        if topic.length and begin + len(samples) / features.RATE > topic.length:
            break
        parts += [samples, np.zeros(round(rng.uniform(0.1, 0.9) * features.RATE), np.float32)]
        made.sentences.append(text)
        made.segments.append((begin + speech.words[0].start, begin + speech.words[-1].end))
        made.words += [(word.name, begin + word.start, begin + word.end) for word in speech.words]
        if not topic.length:
            break
    made.samples = np.concatenate(parts) * np.float32(rng.uniform(0.2, 1.0))
    if rng.random() < topic.noise:
        made.samples = made.samples + _noise(numbers, len(made.samples))
    if topic.prompt:
        made.prompt = " ".join(sentences.sentence(rng, "held_out") for _ in range(rng.randint(1, 4)))
    return made


def recordings(topic: Topic, seed: int, share: float = 1.0) -> Iterator[Recording]:
    """The recordings of a topic, the same for the same seed."""
    for number in range(max(1, round(topic.count * share))):
        yield record(random.Random(f"examination-{seed}-{topic.name}-{number}"), topic)


def wordless(seed: int, count: int) -> Iterator[tuple[str, Array]]:
    """Sounds in which nothing is said, and what they are."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        length = round(rng.uniform(1, 40) * features.RATE)
        time = np.arange(length) / features.RATE
        kind = ("silence", "noise", "loud noise", "tone", "clicks")[number % 5]
        if kind == "silence":
            samples = np.zeros(length)
        elif kind == "tone":
            samples = 0.2 * np.sin(2 * np.pi * rng.uniform(100, 3000) * time)
        elif kind == "clicks":
            samples = np.where(rng.random(length) < 3 / features.RATE, 0.5, 0.0)
        else:
            samples = _noise(rng, length).astype(np.float64) * (10 if kind == "loud noise" else 1)
        yield kind, samples.astype(np.float32)
