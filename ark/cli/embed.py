"""``ark embed``: the vectors of texts."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from ark.cli.client import Client, CommandError, add_server_arguments
from ark.cli.usage import Help

_DESCRIPTION = """\
Embed texts: the arguments, or the lines of standard input. Prints one line of JSON for each text, or with --compare the
cosine of each pair.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "embed", help="embed texts, or compare them", description=_DESCRIPTION, formatter_class=Help
    )
    add_server_arguments(parser)
    parser.add_argument(
        "texts", metavar="TEXT", nargs="*", help="texts to embed; by default each line of standard input"
    )
    parser.add_argument("--model", help="a model of the server; otherwise its first embedding model")
    parser.add_argument(
        "--dimensions", metavar="N", type=int, help="one of the model's sizes, as 'ark models' lists them"
    )
    parser.add_argument(
        "--compare", action="store_true", help="print how similar the texts are: the cosine of each pair"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Not from a terminal: somebody who typed the command alone would wait without knowing for what.
    texts = args.texts or ([] if sys.stdin.isatty() else [line.rstrip("\n") for line in sys.stdin])
    if not texts:
        raise CommandError("there is no text: give some as arguments, or by the standard input")
    with Client(args.url, args.key) as client:
        body: dict[str, Any] = {
            "model": client.model(args.model, "embedding"),
            "input": texts,
            "encoding_format": "float",
        }
        if args.dimensions is not None:
            body["dimensions"] = args.dimensions
        vectors = [item["embedding"] for item in client.post("/embeddings", body)["data"]]
    if args.compare:
        for i, text in enumerate(texts):
            for j in range(i + 1, len(texts)):
                print(f"{cosine(vectors[i], vectors[j]):.4f}\t{text}\t{texts[j]}")
    else:
        for text, vector in zip(texts, vectors, strict=True):
            print(json.dumps({"text": text, "embedding": vector}, ensure_ascii=False))
    return 0


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """The cosine of the angle between two vectors of one size; 0 where one of them is 0."""
    length = math.hypot(*one) * math.hypot(*other)
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / length if length else 0.0
