"""Attention over packed sequences: the function that transformers calls, and the plan that tells it what to do.

All sequences of a step stand in one row without padding. Those with one token come first and are attended without
a mask; longer pieces follow, each with the mask of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.plain_attention import attention

NAME = "ark_packed"


class UnsupportedModel(Exception):
    """The model needs something from attention that the packed function does not do; the message says what."""


@dataclass(frozen=True)
class Piece:
    """The tokens of one sequence in a step: they follow what `kv` holds already."""

    kv: KVBuffer
    token_ids: Sequence[int]


class Plan:
    """Where each sequence of the row keeps its KV, and what it attends to.

    Views are made here once for all layers: inside a layer only attention itself should cost time.
    """

    def __init__(self, spec: KVSpec, pieces: Sequence[Piece]) -> None:
        self.lengths = [len(piece.token_ids) for piece in pieces]
        self.singles = sum(1 for length in self.lengths if length == 1)
        if any(length == 1 for length in self.lengths[self.singles :]):
            raise ValueError("pieces of one token must come first")
        self._heads = spec.heads
        self._fused = spec.fused
        rows = [piece.kv.views(piece.kv.length, len(piece.token_ids)) for piece in pieces]
        layers = range(spec.layers)
        self._targets = [[row[2 * i] for row in rows] + [row[2 * i + 1] for row in rows] for i in layers]
        self._windows = spec.windows
        windows = set(spec.windows)
        self._reads = {window: [_read(piece, window) for piece in pieces] for window in windows}
        longer = pieces[self.singles :]
        self._masks = {window: [_mask(piece, window, spec) for piece in longer] for window in windows}

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store the new keys and values, both (1, kv heads, tokens of the row, head_dim)."""
        sources = [*key.split(self.lengths, dim=2), *value.split(self.lengths, dim=2)]
        torch._foreach_copy_(self._targets[layer], sources)

    def attend(self, layer: int, query: torch.Tensor, scale: float | None, options: dict[str, Any]) -> torch.Tensor:
        """Attention of query (1, heads, tokens, head_dim); returns (1, tokens, heads, head_dim)."""
        if not self._fused:
            return self._written_out(layer, query, scale, options)
        window = self._windows[layer]
        parts: list[torch.Tensor] = []
        if self.singles:
            parts.append(self._attend_singles(layer, query[:, :, : self.singles], scale))
        if self.singles < len(self.lengths):
            rest = query[:, :, self.singles :].split(self.lengths[self.singles :], dim=2)
            k, v = 2 * layer, 2 * layer + 1
            for q, read, mask in zip(rest, self._reads[window][self.singles :], self._masks[window], strict=True):
                causal = mask is None
                out = sdpa(q, read[k], read[v], attn_mask=mask, is_causal=causal, scale=scale, enable_gqa=True)
                parts.append(out.transpose(1, 2))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def _attend_singles(self, layer: int, query: torch.Tensor, scale: float | None) -> torch.Tensor:
        reads = self._reads[self._windows[layer]]
        _, heads, singles, head_dim = query.shape
        k, v = 2 * layer, 2 * layer + 1
        # The queries that share a KV head stand where SDPA expects positions: no mask, no repeated keys.
        rows = query[0].transpose(0, 1)
        grouped = rows.reshape(singles, 1, self._heads, heads // self._heads, head_dim).unbind(0)
        done = [
            sdpa(group, read[k], read[v], scale=scale) for group, read in zip(grouped, reads[:singles], strict=True)
        ]
        return (torch.cat(done) if singles > 1 else done[0]).reshape(1, singles, heads, head_dim)

    def _written_out(
        self, layer: int, query: torch.Tensor, scale: float | None, options: dict[str, Any]
    ) -> torch.Tensor:
        window = self._windows[layer]
        masks = [None] * self.singles + self._masks[window]
        scale = query.shape[3] ** -0.5 if scale is None else scale
        softcap, sinks = options.get("softcap"), options.get("s_aux")
        parts = [
            attention(q, read[2 * layer], read[2 * layer + 1], mask, scale=scale, softcap=softcap, sinks=sinks)
            for q, read, mask in zip(query.split(self.lengths, dim=2), self._reads[window], masks, strict=True)
        ]
        return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


class Probe:
    """Stands in for a plan once, at load, and notes what each layer asks of attention. No sequence is kept."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[int, torch.Size, torch.dtype, int | None]] = {}
        self.fused = True

    def see(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any]
    ) -> None:
        if layer in self.layers:
            raise UnsupportedModel(f"layer {layer} attends twice in one pass")
        if options.get("position_bias") is not None:
            raise UnsupportedModel("its attention uses a position bias")
        if options.get("softcap") is not None or options.get("s_aux") is not None:
            self.fused = False
        if key.shape != value.shape:
            raise UnsupportedModel("its keys and values differ in shape")
        self.layers[layer] = (query.shape[1], key.shape, key.dtype, options.get("sliding_window"))

    def spec(self, device: torch.device) -> KVSpec:
        """The KV of a token. Raises UnsupportedModel when layers differ in more than their window."""
        if not self.layers or sorted(self.layers) != list(range(len(self.layers))):
            raise UnsupportedModel("it does not call the attention interface once for every layer")
        kinds = {(shape[1], shape[3], dtype) for _, shape, dtype, _ in self.layers.values()}
        if len(kinds) > 1:
            raise UnsupportedModel("its layers differ in the shape of their KV")
        heads, head_dim, dtype = kinds.pop()
        groups = {queries // heads for queries, *_ in self.layers.values()}
        group = groups.pop() if len(groups) == 1 else None
        windows = tuple(self.layers[i][3] for i in range(len(self.layers)))
        return KVSpec(len(windows), heads, head_dim, dtype, device, windows, group, self.fused)


def packed_attention(  # noqa: PLR0917 - transformers passes these by position
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    ark_plan: Plan | Probe | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in every layer: query (1, heads, tokens, head_dim), key and value with kv heads."""
    layer: int = module.layer_idx
    if isinstance(ark_plan, Plan):
        ark_plan.write(layer, key, value)
        return ark_plan.attend(layer, query, scaling, options), None
    if isinstance(ark_plan, Probe):
        ark_plan.see(layer, query, key, value, options)
        return query.transpose(1, 2).contiguous(), None
    raise UnsupportedModel("it does not hand its keywords to attention")


def _start(piece: Piece, window: int | None) -> int:
    """The first token that the piece's first token attends to."""
    return 0 if window is None else max(0, piece.kv.length + 1 - window)


def _read(piece: Piece, window: int | None) -> tuple[torch.Tensor, ...]:
    start = _start(piece, window)
    return piece.kv.views(start, piece.kv.length + len(piece.token_ids) - start)


def _mask(piece: Piece, window: int | None, spec: KVSpec) -> torch.Tensor | None:
    """What is added to the scores (new tokens, tokens read); None where SDPA's own causal mask is right."""
    new, past = len(piece.token_ids), piece.kv.length
    if spec.fused and past == 0 and (window is None or new <= window):
        return None  # is_causal aligns to the top left: right only without history
    start = _start(piece, window)
    query = torch.arange(past, past + new, device=spec.device)[:, None]
    key = torch.arange(start, past + new, device=spec.device)[None, :]
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    # Additive and in the model's type: SDPA would otherwise convert a bool mask again in every layer.
    return torch.zeros(hidden.shape, dtype=spec.dtype, device=spec.device).masked_fill_(hidden, float("-inf"))
