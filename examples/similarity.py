"""How similar texts are, with numpy.

Vectors have length 1, so their dot product is the cosine of the angle between them: 1 for the same direction, near 0
for unrelated texts.
"""

from __future__ import annotations

import os

import numpy
from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")

TEXTS = [
    "A cat is sleeping on the sofa.",
    "The kitten naps on the couch.",
    "Interest rates rose again this month.",
]


def main() -> None:
    with OpenAI(base_url=URL, api_key=KEY) as client:
        reply = client.embeddings.create(model="text-embedding-3-small", input=TEXTS)
    vectors = numpy.array([one.embedding for one in reply.data], dtype=numpy.float32)
    likeness = vectors @ vectors.T
    for number, text in enumerate(TEXTS):
        print(" ".join(f"{value:5.2f}" for value in likeness[number]), f" {text}")
    print(f"{vectors.shape[1]} dimensions, {reply.usage.total_tokens} tokens")


if __name__ == "__main__":
    main()
