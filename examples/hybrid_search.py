"""Search by meaning and by words at once, with BGE-M3's dense and lexical vectors from one request.

Dense vectors find texts that mean the same in other words or in another language. Lexical weights find names and
numbers, which dense vectors blur. Serve the model with this ``ark.toml``::

    [[models]]
    name = "BAAI/bge-m3"
    task = "embedding"
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")
MODEL = os.environ.get("ARK_MODEL", "BAAI/bge-m3")

TEXTS = [
    "The XR-7 pump needs new oil every 500 hours.",
    "The XR-9 pump needs new oil every 900 hours.",
    "La pompe doit être nettoyée chaque semaine.",
    "Lunch is served from noon to two.",
]
LEXICAL = 0.3
"""Weight of the words relative to the meaning. The best value depends on the texts."""


class Vectors(NamedTuple):
    """The vectors of one text."""

    dense: NDArray[numpy.float32]
    words: Mapping[str, float]
    """Token id to weight."""


def embed(client: OpenAI, texts: list[str]) -> list[Vectors]:
    reply = client.embeddings.create(model=MODEL, input=texts, extra_body={"ark_sparse": True})
    return [
        Vectors(numpy.array(one.embedding, numpy.float32), (one.model_extra or {})["ark_sparse"]) for one in reply.data
    ]


def lexical(query: Mapping[str, float], text: Mapping[str, float]) -> float:
    """The lexical score: the weights of the tokens that both have."""
    return sum(weight * text[token] for token, weight in query.items() if token in text)


def main() -> None:
    question = " ".join(sys.argv[1:]) or "How often does the XR-9 need oil?"
    with OpenAI(base_url=URL, api_key=KEY) as client:
        asked, *texts = embed(client, [question, *TEXTS])
    scores = []
    for text, vectors in zip(TEXTS, texts, strict=True):
        meaning, words = float(asked.dense @ vectors.dense), lexical(asked.words, vectors.words)
        scores.append((meaning + LEXICAL * words, meaning, words, text))
    print(question)
    for score, meaning, words, text in sorted(scores, reverse=True):
        print(f"{score:.3f} = {meaning:.3f} by meaning + {LEXICAL} * {words:.3f} by words: {text}")


if __name__ == "__main__":
    main()
