"""What a GGUF says of the model in it. This module is light."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

from ark.engines.model_files import ModelFiles
from ark_backends.torch_chat.gguf.architecture import configuration
from ark_backends.torch_chat.gguf.file import EXACT, GGUF, MAGIC


def describe(path: Path) -> ModelFiles | None:
    """Of a file that begins as a GGUF. Raises ConfigError for one that is damaged, or that ARK does not run."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
    gguf = GGUF(path)
    return ModelFiles(
        task="chat",
        directory=path,
        config=configuration(gguf),
        weights_bytes=gguf.weights_bytes,
        facts=tuple(_facts(gguf)),
    )


def _facts(gguf: GGUF) -> list[str]:
    counts: Counter[str] = Counter()
    for tensor in gguf.tensors.values():
        if len(tensor.shape) > 1:
            counts[tensor.kind] += prod(tensor.shape)
    total = sum(counts.values())
    kinds = ", ".join(f"{kind} {100 * count / total:.0f} %" for kind, count in counts.most_common())
    bits = 8 * gguf.weights_bytes / max(1, sum(prod(tensor.shape) for tensor in gguf.tensors.values()))
    rounded = [kind for kind in counts if kind not in EXACT]
    again = f"; {', '.join(rounded)} is rounded to them once more" if rounded else ", which lose nothing by that"
    return [
        f"numbers: {total / 1e6:.0f} million, {bits:.1f} bits each: {kinds}",
        f"quality: in int8 as 32 steps to a scale, as Q8_0{again}; quantization = 'none' keeps the file's numbers",
    ]
