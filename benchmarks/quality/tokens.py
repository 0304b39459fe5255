"""Whether a text becomes the same tokens as in llama.cpp, for every pre-tokenizer that ARK knows and for SentencePiece.

A small vocabulary is written into a GGUF with each of them. The texts are Python's manual and a program, cut anywhere,
and characters of many kinds, mixed: spaces, digits and other numerals, letters of many scripts, signs, emoji.

    python benchmarks/quality/tokens.py --peer /tmp/peers/bin/python
    python benchmarks/quality/tokens.py --peer /tmp/peers/bin/python --gguf MODEL.gguf

llama.cpp comes in the package cyllama, in an environment of its own (`benchmarks/environment.py`). With `--write FILE`
a part of what it found is kept, for a test.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any
from zlib import crc32

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests" / "support")]

TEXTS = 2400
KEPT = 160
"""Texts that `--write` keeps."""

POOLS = (
    " \t\n\r\u00a0\u3000",
    "0123456789",
    "abcXYZ'",
    ".,!?-_()[]{}",
    "\u4f60\u597d\u4e16\u754c\u3001\u3002",
    "\u304b\u306a\u30ab\u30ca",
    "\ud55c\uae00",
    "\U0001f642\U0001f44d\U0001f3fd\u2764\ufe0f",
    "\u00e9\u00fc\u00df\u00f1",
    "\u2163\u2167\u00bd\u00be\u00b2",
    "\u03b1\u03b2\u0393\u0414\u0436",
    "\u0301\u0308\u200d",
    "\u092e\u0928\u0937\u093f",
    "\u0639\u0631\u0628\u064a",
    "\u017fK\u00c5",
)
FIXED = (
    "Hello  World", "a\n\nb\t c  ", "    def f(x):\n        return x**2 # ok\n", "1234567890 12,345.67", "  leading",
    "trailing  ", "I'm you're WE'LL it'S don't", "\r\n\r\n", "\x00\x01\x7f", "foo_bar-baz/qux",
    "<|im_start|>user\nhi<|im_end|>", "'S'T", "    aaaa    aaaaaaa", "=======", "\u2028\u2029\u0085",
)  # fmt: skip
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python that has cyllama")
    parser.add_argument("--gguf", type=Path, nargs="*", help="compare the tokenizers of these files only")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker)
        return
    logging.disable(logging.CRITICAL)
    from ark_backends.kit.gguf.pretokenizers import PATTERNS

    chosen = texts()
    with tempfile.TemporaryDirectory() as directory:
        if options.gguf:
            for file in options.gguf:
                compare(file.name, file, chosen, options.peer, Path(directory))
            return
        pairs, pieces = vocabulary(chosen)
        sums: dict[str, list[int]] = {}
        file = Path(directory) / "vocabulary.gguf"
        for name in [*PATTERNS, "sentencepiece", "sentencepiece without a space"]:
            save(file, name, pairs, pieces)
            found = compare(name, file, chosen, options.peer, Path(directory))
            if found is not None:
                sums[name] = [crc32(json.dumps(ids).encode()) for ids in found[:KEPT]]
    if options.write:
        kept = {"texts": chosen[:KEPT], "merges": pairs, "pieces": pieces, "sums": sums}
        options.write.write_text(json.dumps(kept, ensure_ascii=True) + "\n")


def texts() -> list[str]:
    """The fixed ones first, then the others in turns."""
    import statistics
    from pydoc_data.topics import topics

    draw = random.Random(7)
    source = "\n".join(topics.values()) + inspect.getsource(statistics)
    found = list(FIXED)
    while len(found) < TEXTS:
        place = draw.randrange(len(source))
        found.append(source[place : place + draw.randrange(1, 120)])
        found.append("".join(draw.choice(draw.choice(POOLS)) for _ in range(draw.randrange(1, 25))))
        top = 0x2FFFF if draw.random() < 0.3 else 0x3000
        letters = [chr(draw.randrange(0x20, top)) for _ in range(draw.randrange(1, 16))]
        # What no version of Unicode has yet, or what is half a character, is no text.
        found.append("".join(one for one in letters if unicodedata.category(one) not in ("Cn", "Co", "Cs")) or "x")
    return found[:TEXTS]


def vocabulary(chosen: list[str]) -> tuple[list[str], list[str]]:
    """Pairs of byte-level tokens that are merged, and SentencePiece's tokens, the most important first."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        chosen, trainers.BpeTrainer(vocab_size=900, initial_alphabet=alphabet, show_progress=False)
    )
    pairs = [" ".join(pair) for pair in json.loads(core.to_str())["model"]["merges"]]
    whole = Tokenizer(models.BPE())
    whole.normalizer = normalizers.Replace(" ", "\u2581")
    whole.train_from_iterator(chosen, trainers.BpeTrainer(vocab_size=1500, limit_alphabet=400, show_progress=False))
    tokens: dict[str, int] = whole.get_vocab()
    return pairs, sorted(tokens, key=lambda token: tokens[token])


def save(file: Path, name: str, pairs: list[str], pieces: list[str]) -> None:
    from compiled_runner import a_model
    from gguf_files import pair_vocabulary, piece_vocabulary, save_gguf

    table = piece_vocabulary(name, pieces) if name.startswith("sentencepiece") else pair_vocabulary(name, pairs)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    save_gguf(file, a_model("Llama", vocab_size=max(200, len(table["tokens"])), **shape, **heads), **table)


def compare(name: str, file: Path, chosen: list[str], peer: str, work_in: Path) -> list[list[int]] | None:
    """llama.cpp's tokens, None where it does not know such a tokenizer; says how many texts differ."""
    from ark_backends.kit.gguf.file import GGUF
    from ark_backends.kit.gguf.vocabulary import tokenizer

    source, target = work_in / "texts.json", work_in / "ids.json"
    source.write_text(json.dumps(chosen))
    command = [peer, __file__, "--worker", str(file), str(source), str(target)]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        print(f"{name}: this llama.cpp does not know it", flush=True)
        return None
    expected: list[list[int]] = json.loads(target.read_text())
    ours = tokenizer(GGUF(file))
    differ = [text for text, ids in zip(chosen, expected, strict=True) if ours.encode(text) != ids]
    print(f"{name}: {len(differ)} of {len(chosen)} differ", *map(repr, differ[:3]), flush=True)
    return expected


def work(file: str, source: str, target: str) -> None:
    from cyllama.llama import llama_cpp

    # The vocabulary is a part of the model, which has to stay.
    model: Any = llama_cpp.LlamaModel(file)
    vocabulary = model.get_vocab()
    found = [list(vocabulary.tokenize(text, False, True)) for text in json.loads(Path(source).read_text())]
    Path(target).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
