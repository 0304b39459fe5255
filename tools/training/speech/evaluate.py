"""Examine the embedded speech model through faster-whisper: `python -m tools.training.speech.evaluate`."""

import argparse
import re
import time
from pathlib import Path
from statistics import median
from typing import Any

from faster_whisper import WhisperModel

from ark_backends.whisper.recogniser import LADDER
from ark_embedded import SPEECH
from tools.training.speech import examination, report
from tools.training.speech.examination import TOPICS, Recording, Topic


def plain(text: str) -> list[str]:
    """The words of a text without case and punctuation."""
    return re.findall(r"[a-z']+", text.lower())


def distance(said: list[str], heard: list[str]) -> int:
    """Words to insert, delete or replace (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, one in enumerate(said, 1):
        corner, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (one != other))
    return row[-1]


def _raw_borders(segment: Any, first_time: int) -> tuple[float, float] | None:
    """A segment's own timestamps within its window, where it has both."""
    tokens = [token for token in segment.tokens if token >= first_time]
    if len(tokens) < 2 or segment.tokens[0] != tokens[0]:
        return None
    return (tokens[0] - first_time) * 0.02, (tokens[-1] - first_time) * 0.02


class Candidate:
    """A model to be examined, as faster-whisper loads it."""

    def __init__(self, path: Path, threads: int, beam: int) -> None:
        self.model = WhisperModel(str(path), device="cpu", compute_type="int8", cpu_threads=threads)
        self.beam = beam
        control = self.model.hf_tokenizer.token_to_id("<|notimestamps|>")
        self.first_time = control + 1

    def hear(self, samples: Any, prompt: str | None = None, times: bool = False) -> list[Any]:
        segments, _ = self.model.transcribe(
            samples,
            language="en",
            beam_size=self.beam,
            initial_prompt=prompt,
            word_timestamps=times,
            # As ARK serves it. After a word that was heard twice the next windows would go on with it.
            temperature=LADDER,
            condition_on_previous_text=False,
        )
        return list(segments)


def examine(candidate: Candidate, topic: Topic, seed: int, share: float, show: int) -> dict[str, Any]:
    """The word error rate of one topic."""
    wrong = words = 0
    for recording in examination.recordings(topic, seed, share):
        heard = " ".join(segment.text for segment in candidate.hear(recording.samples, recording.prompt))
        said = " ".join(recording.sentences)
        errors = distance(plain(said), plain(heard))
        wrong += errors
        words += len(plain(said))
        if errors and show:
            show -= 1
            print(f"    said  {said}\n    heard {heard}")
    return {"topic": topic.name, "goal": topic.goal, "errors": wrong, "words": words, "rate": round(wrong / words, 4)}


def _match(recording: Recording, segments: list[Any]) -> list[tuple[float, float]]:
    """(said, heard) ends of the words that are the same in both, in order."""
    heard = [(plain(word.word), word.end) for segment in segments for word in segment.words or []]
    pairs: list[tuple[float, float]] = []
    place = 0
    for name, _, end in recording.words:
        for index in range(place, min(place + 4, len(heard))):
            if heard[index][0] == plain(name):
                pairs.append((end, float(heard[index][1])))
                place = index + 1
                break
    return pairs


def timing(candidate: Candidate, seed: int, share: float) -> dict[str, Any]:
    """Medians of how far segment borders and word ends are off, in seconds, in 30 s windows."""
    borders: list[float] = []
    ends: list[float] = []
    for recording in examination.recordings(TOPICS[2], seed + 1, share):
        segments = [
            border for s in candidate.hear(recording.samples) if (border := _raw_borders(s, candidate.first_time))
        ]
        for start, end in segments:
            borders.append(min(abs(start - said) for said, _ in recording.segments))
            borders.append(min(abs(end - said) for _, said in recording.segments))
        pairs = _match(recording, candidate.hear(recording.samples, times=True))
        ends += [abs(said - heard) for said, heard in pairs]
    return {
        "segment_borders": round(median(borders), 3) if borders else None,
        "word_ends": round(median(ends), 3) if ends else None,
    }


def quiet(candidate: Candidate, seed: int, count: int) -> dict[str, Any]:
    """How many sounds without words were given some."""
    texts = []
    for kind, samples in examination.wordless(seed, count):
        text = "".join(segment.text for segment in candidate.hear(samples)).strip()
        if text:
            texts.append(f"{kind}: {text[:60]}")
    return {"sounds": count, "with_text": len(texts), "texts": texts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=SPEECH)
    parser.add_argument("--share", type=float, default=1.0, help="the share of the recordings to use, for a quick look")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--beam", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--show", type=int, default=0, help="failures of each topic to print")
    parser.add_argument("--run", type=Path, help="the training run; with it, the report is written beside the model")
    arguments = parser.parse_args()
    began = time.monotonic()
    candidate = Candidate(arguments.model, arguments.threads, arguments.beam)
    rows = []
    for topic in TOPICS:
        rows.append(examine(candidate, topic, arguments.seed, arguments.share, arguments.show))
        print(f"{topic.name:45} {rows[-1]['rate']:7.1%}  goal {topic.goal:.0%}", flush=True)
    times = timing(candidate, arguments.seed, arguments.share)
    silence = quiet(candidate, arguments.seed, max(5, round(40 * arguments.share)))
    print(times, silence, f"{time.monotonic() - began:.0f} s")
    if arguments.run:
        content = {
            "training": report.training(arguments.run),
            "seed": arguments.seed,
            "beam": arguments.beam,
            "topics": rows,
            "timing": times,
            "silence": silence,
        }
        report.write(arguments.model, content)


if __name__ == "__main__":
    main()
