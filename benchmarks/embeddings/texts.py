"""Texts with a known number of tokens, and a model directory that lets every system read all of each."""

from __future__ import annotations

import json
import random
from pathlib import Path

LENGTHS = {"short": (5, 24), "mixed": (5, 400), "long": (300, 400)}
"""Smallest and largest number of tokens of a text, special ones included."""

MAX_LENGTH = 512


def make_texts(vocabulary: Path, kind: str, count: int) -> list[str]:
    """Random words of one token each; the same at every call."""
    draw = random.Random(kind)
    pieces = vocabulary.read_text(encoding="utf-8").split()
    words = [piece for piece in pieces if len(piece) > 2 and piece.isascii() and piece.isalpha()]
    low, high = LENGTHS[kind]
    return [" ".join(draw.choices(words, k=draw.randint(low, high) - 2)) for _ in range(count)]


def whole_length(model: Path, target: Path) -> Path:
    """A directory with links to the model's files, except for the length at which sentence-transformers cuts texts."""
    target.mkdir()
    for file in model.iterdir():
        if file.name != "sentence_bert_config.json":
            (target / file.name).symlink_to(file)
    settings = {"max_seq_length": MAX_LENGTH, "do_lower_case": False}
    (target / "sentence_bert_config.json").write_text(json.dumps(settings))
    return target
