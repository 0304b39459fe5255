"""Numbers of GGUF's most common types, by loops that threads can run side by side: gguf's own take several times as
long, and hold Python's lock."""

from __future__ import annotations

from typing import Any

import numpy as np

from ark_backends.torch_chat.compiled.cache import kept
from ark_backends.torch_chat.compiled.tables import GROUP

STEPS = np.float32(127.0)

SUPER = 256
"""Numbers of a block of the types whose name ends in K."""


def floats(kind: str, raw: Any, inputs: int) -> Any:
    """Rows (rows, bytes) of a type as float32 (rows, inputs); None for a type that is none of these."""
    out = np.empty((len(raw), inputs), dtype=np.float32)
    if kind in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
        blocks = raw.reshape(len(raw), inputs // GROUP, -1)
        scale = _half(blocks, 0)
        # Where there is no smallest number, zero stands in the middle.
        low = _half(blocks, 2) if kind.endswith("1") else scale * np.float32({"Q4_0": -8, "Q5_0": -16}.get(kind, 0))
        loop = {"Q4": _q4, "Q5": _q5, "Q8": _q8}[kind[:2]]
        loop(blocks, 4 if kind.endswith("1") else 2, scale, low, out)
    elif kind in ("Q4_K", "Q5_K", "Q6_K"):
        blocks = raw.reshape(len(raw), inputs // SUPER, -1)
        if kind == "Q6_K":
            _q6k(blocks, _half(blocks, 208), out)
        else:
            _q45k(blocks, int(kind == "Q5_K"), _half(blocks, 0), _half(blocks, 2), out)
    else:
        return None
    return out


def rounded(rows: Any) -> tuple[Any, Any]:
    """Steps and scales of rows (rows, whole groups), float32, as `ark_backends.torch_chat.int8.rounded` has them."""
    groups = rows.reshape(len(rows), -1, GROUP)
    # As whole numbers, sizes have the same order, and what is no number is the largest.
    largest = np.empty(groups.shape[:2], dtype=np.uint32)
    _largest(groups.view(np.uint32), largest)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scale = (largest.view(np.float32) / STEPS).astype(np.float16)
        inverse = np.nan_to_num(np.float32(1.0) / scale.astype(np.float32), nan=0.0, posinf=0.0)
    steps = np.empty(rows.shape, dtype=np.int8)
    _steps(groups, inverse, steps.reshape(groups.shape))
    return steps, scale


def _half(blocks: Any, place: int) -> Any:
    """The number in 16 bits at a place of each block, in float32."""
    return np.ascontiguousarray(blocks[:, :, place : place + 2]).view(np.float16)[:, :, 0].astype(np.float32)


@kept
def _q4(blocks: Any, start: int, scale: Any, low: Any, out: Any) -> None:
    for row in range(blocks.shape[0]):
        for group in range(blocks.shape[1]):
            step, least, place = scale[row, group], low[row, group], group * 32
            for j in range(16):
                pair = blocks[row, group, start + j]
                out[row, place + j] = step * np.float32(pair & 15) + least
                out[row, place + 16 + j] = step * np.float32(pair >> 4) + least


@kept
def _q5(blocks: Any, start: int, scale: Any, low: Any, out: Any) -> None:
    for row in range(blocks.shape[0]):
        for group in range(blocks.shape[1]):
            step, least, place = scale[row, group], low[row, group], group * 32
            for j in range(16):
                pair = blocks[row, group, start + 4 + j]
                first = blocks[row, group, start + j // 8] >> (j % 8) & 1
                second = blocks[row, group, start + 2 + j // 8] >> (j % 8) & 1
                out[row, place + j] = step * np.float32(pair & 15 | first << 4) + least
                out[row, place + 16 + j] = step * np.float32(pair >> 4 | second << 4) + least


@kept
def _q8(blocks: Any, start: int, scale: Any, low: Any, out: Any) -> None:
    for row in range(blocks.shape[0]):
        for group in range(blocks.shape[1]):
            for j in range(32):
                out[row, group * 32 + j] = scale[row, group] * np.float32(np.int8(blocks[row, group, start + j]))


@kept
def _q45k(blocks: Any, fifth: int, scale: Any, low: Any, out: Any) -> None:
    for row in range(blocks.shape[0]):
        for block in range(blocks.shape[1]):
            for part in range(8):
                # Eight factors of 6 bits, and as many for what is subtracted, share twelve bytes.
                if part < 4:
                    factor = blocks[row, block, 4 + part] & 63
                    least = blocks[row, block, 8 + part] & 63
                else:
                    factor = blocks[row, block, 8 + part] & 15 | blocks[row, block, part] >> 6 << 4
                    least = blocks[row, block, 8 + part] >> 4 | blocks[row, block, 4 + part] >> 6 << 4
                step = scale[row, block] * np.float32(factor)
                minus = low[row, block] * np.float32(least)
                first, place = 16 + 32 * fifth + 32 * (part // 2), block * 256 + 32 * part
                for j in range(32):
                    value = blocks[row, block, first + j] >> (4 * (part % 2)) & 15
                    if fifth:
                        value |= (blocks[row, block, 16 + j] >> part & 1) << 4
                    out[row, place + j] = step * np.float32(value) - minus


@kept
def _q6k(blocks: Any, scale: Any, out: Any) -> None:
    for row in range(blocks.shape[0]):
        for block in range(blocks.shape[1]):
            for part in range(8):
                half, quarter = part // 4, part % 4
                place = block * 256 + 32 * part
                for j in range(32):
                    value = blocks[row, block, 64 * half + 32 * (quarter % 2) + j] >> (4 * (quarter // 2)) & 15
                    value |= (blocks[row, block, 128 + 32 * half + j] >> (2 * quarter) & 3) << 4
                    factor = np.int8(blocks[row, block, 192 + 2 * part + j // 16])
                    step = scale[row, block] * np.float32(factor)
                    out[row, place + j] = step * np.float32(np.int32(value) - 32)


@kept
def _largest(groups: Any, out: Any) -> None:
    for row in range(groups.shape[0]):
        for group in range(groups.shape[1]):
            found = np.uint32(0)
            for j in range(32):
                found = max(found, groups[row, group, j] & np.uint32(0x7FFFFFFF))
            out[row, group] = found


@kept
def _steps(groups: Any, inverse: Any, out: Any) -> None:
    for row in range(groups.shape[0]):
        for group in range(groups.shape[1]):
            for j in range(32):
                value = np.rint(groups[row, group, j] * inverse[row, group])
                out[row, group, j] = np.int8(min(max(value, np.float32(-127.0)), np.float32(127.0)))
