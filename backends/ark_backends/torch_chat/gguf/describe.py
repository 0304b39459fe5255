"""What a GGUF says of the model in it. This module is light."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

from ark.engines import hub
from ark.engines.model_files import ModelFiles, find_local
from ark_backends.kit.gguf.file import EXACT, GGUF, MAGIC
from ark_backends.torch_chat.gguf.architecture import configuration
from ark_backends.torch_chat.gguf.sources import find_file, hub_files

UNKNOWN = {"architectures": ["known when it is downloaded"], "quantization_config": {"quant_method": "gguf"}}
"""What stands for the configuration of a file that is still on the hub."""


def describe(source: str, revision: str | None) -> ModelFiles | None:
    """None where the source is no GGUF. Raises ConfigError for one that is damaged, or that ARK does not run."""
    path = find_file(source)
    if path is not None:
        return _describe(path)
    names = [] if find_local(source) else list(hub_files(source, revision))
    if not names:
        return None
    directory = hub.small_files(source, revision)
    if all((directory / name).is_file() for name in names):
        return _describe(directory / names[0])
    return ModelFiles(task="chat", config=UNKNOWN)


def _describe(path: Path) -> ModelFiles | None:
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
