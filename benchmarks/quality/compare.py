"""How far ARK's number formats, and llama.cpp's, are from float32 on real text.

The model reads a manual, a licence and a program, which every machine with Python has, in windows of 512 tokens.
transformers in float32 is the reference, for a GGUF with the numbers that are in the file: perplexity, the mean
Kullback-Leibler divergence of next tokens in nats, and how often the most likely next token is the same.

    python benchmarks/quality/compare.py DIRECTORY
    python benchmarks/quality/compare.py DIRECTORY --gguf MODEL.gguf --peer /tmp/peers/bin/python
    python benchmarks/quality/compare.py MODEL.gguf --gguf MODEL.gguf --peer /tmp/peers/bin/python

llama.cpp comes in the package cyllama, in an environment of its own (`benchmarks/environment.py`); it makes its formats
from the file given.
"""

from __future__ import annotations

import argparse
import inspect
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

WINDOW = 512
WINDOWS = 4
"""Of each text."""

TEXTS = ("manual", "licence", "program")
ARK = ("float32", "bfloat16", "int8")
STORED = "as stored"
LLAMA = {"float32": 0, "bfloat16": 32, "q8_0": 7, STORED: None}
"""The numbers that llama.cpp has for them; it makes all but the last."""

Logits = Callable[[list[int]], Any]
"""Tokens, which follow nothing -> logits (tokens, vocabulary) after each."""


def main() -> None:
    options = arguments()
    if options.worker:
        vocabulary = np.load(next(options.work.glob("*.npy")), mmap_mode="r").shape[1]
        found = measured(llama(options.gguf, options.worker, vocabulary), options.work)
        print("RESULT " + json.dumps(found), flush=True)
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as directory:
        work = Path(directory)
        save_windows(options.model, work)
        reference(options.model, work)
        found = {}
        for kind in options.ark:
            found[f"ark {kind}"] = measured(ark(options.model, kind), work)
            show(found)
        for kind in options.llama if options.gguf else ():
            command = [options.peer, __file__, str(options.model), "--worker", kind, "--gguf", str(options.gguf)]
            run = subprocess.run([*command, "--work", directory], stdout=subprocess.PIPE, text=True, check=True)
            line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT "))
            found[f"llama.cpp {kind}"] = json.loads(line.removeprefix("RESULT "))
            show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a directory that transformers loads, or a GGUF")
    parser.add_argument("--ark", nargs="*", default=ARK, choices=ARK)
    parser.add_argument("--gguf", type=Path, help="the same weights as llama.cpp reads them")
    parser.add_argument("--llama", nargs="*", default=list(LLAMA), choices=list(LLAMA))
    parser.add_argument("--peer", default=sys.executable, help="a Python that has cyllama")
    parser.add_argument("--scratch", help="where 1.2 GB may be written; the usual place when it is not given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def texts() -> dict[str, str]:
    import statistics
    from pydoc_data.topics import topics

    manual = "\n".join(topics[name] for name in ("compound", "execmodel", "import", "specialnames"))
    return {
        "manual": manual,
        "licence": (ROOT / "LICENSE").read_text(encoding="utf-8"),
        "program": inspect.getsource(statistics),
    }


def save_windows(model: Path, work: Path) -> None:
    from ark_backends.torch_chat.checkpoint import checkpoint

    tokenizer = checkpoint(model).tokenizer()
    windows = {}
    for name, text in texts().items():
        tokens = tokenizer.encode(text)
        windows[name] = [tokens[WINDOW * i : WINDOW * (i + 1)] for i in range(WINDOWS)]
    (work / "windows.json").write_text(json.dumps(windows))


def windows(work: Path) -> Iterator[tuple[str, list[int], Path]]:
    """Each window: its text, its tokens, and where the reference's logits are."""
    for name, all_of_it in json.loads((work / "windows.json").read_text()).items():
        for number, tokens in enumerate(all_of_it):
            yield name, tokens, work / f"{name}-{number}.npy"


def reference(model: Path, work: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from ark_backends.kit.gguf.file import GGUF
    from ark_backends.torch_chat.gguf.model import build
    from ark_backends.torch_chat.stored import load_stored

    if model.is_file():
        plain = build(GGUF(model))
        load_stored(plain, torch.float32, torch.device("cpu"))
    else:
        plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    for _, tokens, path in windows(work):
        with torch.inference_mode():
            np.save(path, plain(torch.tensor([tokens]), use_cache=False).logits[0].numpy())


def measured(logits: Logits, work: Path) -> dict[str, Any]:
    """Perplexity by text, and what the other numbers are in all windows together."""
    losses: dict[str, list[float]] = {name: [] for name in TEXTS}
    theirs: dict[str, list[float]] = {name: [] for name in TEXTS}
    divergences, same = [], []
    for name, tokens, path in windows(work):
        ours, expected = log_softmax(logits(tokens)), log_softmax(np.load(path))
        following = np.array(tokens[1:])
        rows = np.arange(len(following))
        losses[name] += (-ours[rows, following]).tolist()
        theirs[name] += (-expected[rows, following]).tolist()
        divergences += (np.exp(expected) * (expected - ours)).sum(axis=1).tolist()
        same += (ours.argmax(axis=1) == expected.argmax(axis=1)).tolist()
    return {
        "perplexity": {name: float(np.exp(np.mean(values))) for name, values in losses.items()},
        "over float32": {name: float(np.exp(np.mean(losses[name]) - np.mean(theirs[name])) - 1) for name in TEXTS},
        "divergence": float(np.mean(divergences)),
        "same top token": float(np.mean(same)),
    }


def log_softmax(logits: Any) -> Any:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def ark(model: Path, kind: str) -> Logits:
    import torch

    from ark_backends.kit.gguf.file import GGUF
    from ark_backends.torch_chat.gguf.decoder import Decoder
    from ark_backends.torch_chat.pretrained import load
    from ark_backends.torch_chat.runner import Runner

    if model.is_file():
        decoder = Decoder(GGUF(model), torch.bfloat16 if kind == "bfloat16" else None)
        runner = Runner(decoder, decoder.spec)
    else:
        runner = Runner(load(model, device="cpu", dtype="bfloat16" if kind == "bfloat16" else "float32")[0])
    runner.compile(quantized=kind == "int8")

    def logits(tokens: list[int]) -> Any:
        found: torch.Tensor = runner.logits(tokens)
        return found.numpy()

    return logits


def llama(gguf: Path, kind: str, vocabulary: int) -> Logits:
    from cyllama.llama import llama_cpp

    class Model(llama_cpp.LlamaModel):  # type: ignore[misc]
        # What a context of cyllama 0.2 asks its model for, which has no such thing.
        n_vocab = vocabulary

    made = gguf if kind == STORED else gguf.with_name(f"{gguf.stem}.{kind}.gguf")
    if not made.exists():
        how = llama_cpp.LlamaModelQuantizeParams()
        how.ftype, how.allow_requantize = LLAMA[kind], True
        llama_cpp.model_quantize(str(gguf), str(made), how)
    model = Model(str(made))
    params = llama_cpp.LlamaContextParams()
    params.n_ctx = params.n_batch = params.n_ubatch = WINDOW

    def logits(tokens: list[int]) -> Any:
        context = llama_cpp.LlamaContext(model, params)
        batch = llama_cpp.LlamaBatch(n_tokens=len(tokens), embd=0, n_seq_max=1)
        batch.set_batch(tokens, n_past=0, logits_all=True)
        context.decode(batch)
        return np.stack([np.asarray(context.get_logits_ith(i), dtype=np.float32) for i in range(len(tokens))])

    return logits


def show(found: dict[str, Any]) -> None:
    print(f"\n| | {' | '.join(f'perplexity, {name}' for name in TEXTS)} | KL, nats | same top token |")
    print("|---" * (len(TEXTS) + 3) + "|")
    for kind, one in found.items():
        cells = [f"{one['perplexity'][name]:.3f} ({100 * one['over float32'][name]:+.2f} %)" for name in TEXTS]
        print(f"| {kind} | {' | '.join(cells)} | {one['divergence']:.5f} | {100 * one['same top token']:.1f} % |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
