"""Sentences as features with their word and phoneme times: the stock that windows are put together from.

`python -m tools.training.speech.clips --out DIR` writes shards of clips. A shard depends on its number alone.
"""

import argparse
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tools.training.speech import features, lexicon, sentences
from tools.training.speech.espeak import Speech, Voice, speaker
from tools.training.speech.lexicon import Split

ACCENTS = ("en", "en-us", "en-gb-x-rp", "en-gb-scotland")
SPEAKERS = {
    "train": ("", "+m1", "+m2", "+m3", "+m5", "+m6", "+m7", "+f1", "+f2", "+f4", "+f5"),
    "held_out": ("+m4", "+f3"),
}
PER_SHARD = 1000
STRINGS = 0.35
"""The share of strings without sense in training."""
PHONEMES = 128
"""Phoneme labels: espeak's names by hash, zero for silence. Few of the names share one, and nothing reads them back."""
TAIL = 0.06
"""Seconds that are kept after the last phoneme."""

WORD_LABELS = {word.lower(): index for index, word in enumerate(lexicon.vocabulary(), 1)}


def voice(rng: random.Random, split: Split) -> Voice:
    """A voice of a split, with its own speed and melody."""
    return Voice(
        name=rng.choice(ACCENTS) + rng.choice(SPEAKERS[split]),
        rate=rng.randint(120, 210),
        pitch=rng.randint(25, 75),
        range=rng.randint(25, 80),
        gap=rng.choice((0, 0, 0, 1, 3, 6)),
    )


def samples_16k(speech: Speech) -> NDArray[np.float32]:
    """The samples at 16 kHz, in [-1, 1], by the resampler that decoding uses."""
    frame = av.AudioFrame.from_ndarray(speech.samples[None], format="s16", layout="mono")
    frame.sample_rate = speech.rate
    resampler = av.AudioResampler(format="s16", layout="mono", rate=features.RATE)
    parts = [p.to_ndarray()[0] for f in (frame, None) for p in resampler.resample(f)]
    return np.concatenate(parts).astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class Clip:
    """One sentence. `power` is log10 of the mel power, (frames, 80); times are frames of 10 ms from its start."""

    text: str
    power: NDArray[np.float16]
    words: NDArray[np.float32]
    phonemes: NDArray[np.uint8]


def word_label(word: str) -> int:
    """A word without its punctuation as a class; zero is no word."""
    return WORD_LABELS[word.strip(".,?").lower()]


def make(text: str, how: Voice) -> Clip:
    """Say a sentence and cut it after its last sound. `phonemes` has one label for each frame."""
    speech = speaker().say(text, how)
    samples = samples_16k(speech)
    samples = samples[: int((speech.words[-1].end + TAIL) * features.RATE)]
    power = features.powers(samples)
    labels = np.zeros(len(power), np.uint8)
    for sound in speech.phonemes:
        labels[round(sound.start * 100) : round(sound.end * 100)] = 1 + zlib.crc32(sound.name.encode()) % (PHONEMES - 1)
    times = np.array([(100 * word.start, 100 * word.end) for word in speech.words], np.float32)
    return Clip(text, np.log10(np.maximum(power, 1e-10)).astype(np.float16), times, labels)


def shard(number: int) -> list[Clip]:
    """The clips of one shard of training."""
    rng = random.Random(f"clips-{number}")
    return [make(sentences.sentence(rng, "train", STRINGS), voice(rng, "train")) for _ in range(PER_SHARD)]


def save(path: Path, clips: list[Clip]) -> None:
    """Write a shard: all clips' frames in one row, and where each begins."""
    temporary = path.with_suffix(".new.npz")
    np.savez(
        temporary,
        texts=np.array([clip.text for clip in clips]),
        power=np.concatenate([clip.power for clip in clips]),
        phonemes=np.concatenate([clip.phonemes for clip in clips]),
        words=np.concatenate([clip.words for clip in clips]),
        frames=np.array([len(clip.power) for clip in clips]),
        counts=np.array([len(clip.words) for clip in clips]),
    )
    temporary.replace(path)


def load(path: Path) -> list[Clip]:
    """Read a shard."""
    stored = np.load(path)
    frames, counts = stored["frames"].cumsum()[:-1], stored["counts"].cumsum()[:-1]
    return [
        Clip(str(text), power, words, phonemes)
        for text, power, words, phonemes in zip(
            stored["texts"],
            np.split(stored["power"], frames),
            np.split(stored["words"], counts),
            np.split(stored["phonemes"], frames),
            strict=True,
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--shards", type=int, default=24, help=f"shards of {PER_SHARD} sentences, about 45 minutes each"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.shards):
        path = arguments.out / f"{number:03}.npz"
        if not path.exists():
            save(path, shard(number))
            print(path, flush=True)


if __name__ == "__main__":
    main()
