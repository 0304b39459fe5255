"""Layers in 8 bits, in a file beside the model, so that the next start does not have to make them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ark_backends.torch_chat.int8 import Rounded

log = logging.getLogger("ark.torch_chat")

FILE = "model.ark-int8"
"""Its name in the model's directory. It does not end like a file of weights, or others would load it as one."""

FORMAT = "1"
"""Changes whenever the meaning of the file changes."""

SAMPLE_BYTES = 1 << 20
"""Bytes of each end of a weight file that the fingerprint reads."""


@dataclass
class QuantizedLayers:
    """The layers of one model."""

    total: int = 0
    logits_error: float = 0.0
    layers: dict[str, Rounded] = field(default_factory=dict)


class QuantizedCache:
    """The file in one model's directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._directory = directory

    def read(self) -> QuantizedLayers | None:
        """The layers in the file; None where there is no file, or it belongs to other weights."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                if (about.get("format"), about.get("model")) != (FORMAT, self._fingerprint()):
                    log.info("%s is of other weights, and is made again", self.path)
                    return None
                names = {key.rpartition(".")[0] for key in file.keys()}  # noqa: SIM118 - it is no mapping
                layers = {
                    name: Rounded(file.get_tensor(f"{name}.steps"), file.get_tensor(f"{name}.scale")) for name in names
                }
                return QuantizedLayers(int(about["total"]), float(about["logits_error"]), layers)
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            log.warning("%s cannot be read, and is made again: %s", self.path, error)
            return None

    def write(self, quantized: QuantizedLayers) -> None:
        """Write the file, or log why it cannot be written."""
        tensors: dict[str, torch.Tensor] = {}
        for name, rounded in quantized.layers.items():
            tensors[f"{name}.steps"], tensors[f"{name}.scale"] = rounded.steps, rounded.scale
        about = {
            "format": FORMAT,
            "model": self._fingerprint(),
            "total": str(quantized.total),
            "logits_error": repr(quantized.logits_error),
        }
        part = self.path.with_name(f"{FILE}.{os.getpid()}")
        try:
            save_file(tensors, part, metadata=about)
            part.replace(self.path)
        except (OSError, SafetensorError) as error:
            log.warning("the layers in int8 cannot be kept in %s: %s", self.path, error)
            part.unlink(missing_ok=True)
        else:
            log.info("the layers in int8 are kept in %s", self.path)

    def _fingerprint(self) -> str:
        """A hash of the configuration, and of the names, sizes and ends of the weight files."""
        seen = hashlib.sha256((self._directory / "config.json").read_bytes())
        files = (file for pattern in ("*.safetensors", "*.bin") for file in self._directory.glob(pattern))
        for file in sorted(files):
            size = file.stat().st_size
            seen.update(json.dumps([file.name, size]).encode())
            with file.open("rb") as opened:
                seen.update(opened.read(SAMPLE_BYTES))
                opened.seek(max(0, size - SAMPLE_BYTES))
                seen.update(opened.read(SAMPLE_BYTES))
        return seen.hexdigest()
