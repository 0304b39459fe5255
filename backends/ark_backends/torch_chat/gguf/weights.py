"""The numbers in a GGUF's tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cache
from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from ark_backends.kit.gguf.file import StoredTensor
from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.int8 import GROUP, Rounded, rounded

CHUNK = 1 << 18
"""Numbers that are made at once: what one thread makes of them stays in its processor's cache."""

NIBBLES = np.array([0, 4], dtype=np.uint8).reshape(2, 1)

IQ4_STEPS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], dtype=np.int8)
"""What the sixteen values of IQ4_NL stand for."""


class TensorWeight:
    """`StoredWeight` of a tensor of a GGUF."""

    def __init__(self, tensor: StoredTensor, order: Any = None, dtype: torch.dtype | None = None) -> None:
        """`order` has the numbers of the tensor's rows in the order of the weight's, where that is another. `dtype` is
        the weight's type if that is not the tensor's own."""
        rows, inputs = tensor.shape
        self.shape = (rows, inputs)
        self.kind = tensor.kind
        self.dtype = dtype or (torch.bfloat16 if tensor.kind == "BF16" else torch.float32)
        self._bytes = np.frombuffer(tensor.data, dtype=np.uint8).reshape(rows, tensor.row_bytes)
        self._order = order

    @property
    def in_memory(self) -> TensorWeight:
        found = copy(self)
        found._bytes = self._bytes.copy()
        return found

    def rows(self, begin: int, end: int) -> torch.Tensor:
        out = np.empty((end - begin, self.shape[1]), dtype=np.float32)

        def make(first: int, last: int) -> None:
            out[first:last] = self._floats(self._raw(begin + first, begin + last))

        # In one thread: those of torch still wait for the next product, and would be in the way of others.
        self._in_chunks(end - begin, make)
        return torch.from_numpy(out)

    def select(self, ids: torch.Tensor) -> torch.Tensor:
        places = ids.numpy()
        raw = self._bytes[places if self._order is None else self._order[places]]
        return torch.from_numpy(self._floats(raw))

    def rounded(self) -> Rounded:
        outputs, inputs = self.shape
        groups = -(-inputs // GROUP)
        steps = np.empty((outputs, groups * GROUP), dtype=np.int8)
        scale = np.empty((outputs, groups), dtype=np.float16)

        def make(first: int, last: int) -> None:
            raw = self._raw(first, last)
            made = _steps(self.kind, raw, groups)
            steps[first:last], scale[first:last] = _rounded(self._floats(raw)) if made is None else made

        self._in_chunks(outputs, make, torch.get_num_threads())
        return Rounded(torch.from_numpy(steps), torch.from_numpy(scale))

    def _raw(self, begin: int, end: int) -> Any:
        return self._bytes[begin:end] if self._order is None else self._bytes[self._order[begin:end]]

    def _floats(self, raw: Any) -> Any:
        if self.kind == "F32":
            return raw.view(np.float32).copy()
        loops = _loops()
        # What is not finite stays so, and is no reason for a warning.
        with np.errstate(all="ignore"):
            found = None if loops is None else loops.floats(self.kind, raw, self.shape[1])
            return dequantize(raw, GGMLQuantizationType[self.kind]) if found is None else found

    def _in_chunks(self, rows: int, make: Any, threads: int = 1) -> None:
        step = max(1, CHUNK // self.shape[1])
        chunks = [(begin, min(begin + step, rows)) for begin in range(0, rows, step)]
        # The first one alone, which may have to be compiled.
        make(*chunks[0])
        if threads == 1 or len(chunks) == 1:
            for chunk in chunks[1:]:
                make(*chunk)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda chunk: make(*chunk), chunks[1:]))


@cache
def _loops() -> Any:
    """Compiled ones, which are faster; None where they cannot be compiled."""
    if compiled.unable() is not None:
        return None
    # Only here, because it imports numba.
    from ark_backends.torch_chat.compiled import blocks  # noqa: PLC0415

    return blocks


def _rounded(floats: Any) -> tuple[Any, Any]:
    loops = _loops()
    if loops is not None and floats.shape[1] % GROUP == 0:
        return loops.rounded(floats)  # type: ignore[no-any-return]
    found = rounded(torch.from_numpy(floats))
    return found.steps.numpy(), found.scale.numpy()


def _steps(kind: str, raw: Any, groups: int) -> tuple[Any, Any] | None:
    """Steps and scales of rows of a type whose blocks are groups of whole steps; None for other types."""
    sizes = {"Q8_0": 34, "Q4_0": 18, "Q5_0": 22, "IQ4_NL": 18}
    if kind not in sizes:
        return None
    blocks = raw.reshape(-1, sizes[kind])
    scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16).reshape(-1, groups)
    if kind == "Q8_0":
        steps = blocks[:, 2:].view(np.int8)
    else:
        # The low halves of all bytes come first.
        nibbles = (blocks[:, None, -16:] >> NIBBLES) & 15
        values = nibbles.reshape(-1, GROUP)
        if kind == "IQ4_NL":
            steps = IQ4_STEPS[values]
        elif kind == "Q4_0":
            steps = values.view(np.int8) - np.int8(8)
        else:
            high = np.unpackbits(np.ascontiguousarray(blocks[:, 2:6]), axis=1, bitorder="little")
            steps = (values | high << 4).view(np.int8) - np.int8(16)
    return steps.reshape(len(scale), -1), scale
