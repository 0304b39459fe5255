"""Find the sentences of ARK's documentation that answer a question, by meaning instead of by words.

``python examples/semantic_search.py "how do I limit memory?"``
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy
from numpy.typing import NDArray
from openai import OpenAI

URL = os.environ.get("ARK_URL", "http://127.0.0.1:8000/v1")
KEY = os.environ.get("ARK_KEY", "none")

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("README.md", "docs/chat.md", "docs/sessions.md", "docs/transcription.md")
BEST = 3


def sentences(path: Path) -> list[str]:
    """The sentences of a Markdown file, without headings, tables and programs."""
    text = re.sub(r"```.*?```|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n|\n(?=[-|] |\d\. )", text))
    return [
        sentence
        for block in blocks
        if not block.startswith(("#", "|", "!"))
        for sentence in re.split(r"(?<=[.?!]) (?=[A-Z`[])", block.lstrip("- "))
        if len(sentence) > 30
    ]


def embed(client: OpenAI, texts: list[str]) -> NDArray[numpy.float32]:
    """One row for each text. A text over the model's length is cut; its beginning says what it is about."""
    reply = client.embeddings.create(model="text-embedding-3-small", input=texts, extra_body={"ark_truncate": True})
    return numpy.array([one.embedding for one in reply.data], dtype=numpy.float32)


def main() -> None:
    question = " ".join(sys.argv[1:]) or "What happens when I close the connection early?"
    found = [(name, sentence) for name in DOCUMENTS for sentence in sentences(ROOT / name)]
    with OpenAI(base_url=URL, api_key=KEY) as client:
        index = embed(client, [sentence for _, sentence in found])
        (asked,) = embed(client, [question])
    scores = index @ asked
    print(question)
    for number in numpy.argsort(-scores)[:BEST]:
        name, sentence = found[number]
        print(f"{scores[number]:.2f} {name}: {sentence}")


if __name__ == "__main__":
    main()
