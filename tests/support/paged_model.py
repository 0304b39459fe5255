"""An arithmetic model for ExLlama's generators, whose logits depend on all of the KV cache that it reads.

The KV cache has one number for each position: a hash of the token there and of the number before it. The logits come
from the sum of all of them, so one wrong or missing number anywhere in a conversation changes what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch

VOCABULARY = 199
PADDED = 224
MODULUS = 4093
"""A prime, small enough that float32 sums thousands of smaller numbers exactly."""


def step(before: int, token: int) -> int:
    """The number at a position, given the one before it."""
    return (before * 31 + token * 17 + 7) % MODULUS


def logits(total: int, last: int) -> torch.Tensor:
    """(padded vocabulary), float32, after a conversation whose numbers add up to `total` and end in `last`."""
    return _logits((total * 13 + last) % MODULUS)


@cache
def _logits(seed: int) -> torch.Tensor:
    ids = torch.arange(PADDED, dtype=torch.float64)
    values = 6.0 * torch.sin((seed + 1) * (ids + 3) * 0.618034 + seed * 0.7)
    values[VOCABULARY:] = -65504.0
    return values.float()


def expected(prompt: Sequence[int]) -> torch.Tensor:
    """The logits after a prompt (vocabulary)."""
    total = last = 0
    for token in prompt:
        last = step(last, token)
        total += last
    return logits(total, last)[:VOCABULARY]


def greedy(prompt: Sequence[int], count: int) -> list[int]:
    """What follows a prompt."""
    total = last = 0
    for token in prompt:
        last = step(last, token)
        total += last
    said = []
    for _ in range(count):
        said.append(int(logits(total, last)[:VOCABULARY].argmax()))
        last = step(last, said[-1])
        total += last
    return said


class ArithmeticModel:
    """The interface that the generators expect of a model. While `fault` is set, passes raise it."""

    def __init__(self, context_length: int = 4096, *, wrong_every: int = 0) -> None:
        """With `wrong_every` = n, every n-th token is wrong, like those of a draft model."""
        self.config = SimpleNamespace(
            vocab_size=VOCABULARY,
            infer_params=None,
            max_seq_len=context_length,
            max_input_len=2048,
            max_batch_size=1,
            no_flash_attn=False,
            num_hidden_layers=1,
            num_key_value_heads=1,
            head_dim=1,
            arch=SimpleNamespace(lm=SimpleNamespace(mrope=False)),
        )
        self.cache_map = {0: "cpu"}
        self.caps: dict[str, Any] = {}
        self.draft_verifier_params: dict[str, Any] = {}
        self.loaded_tp = False
        self.output_device = "cpu"
        self.passes: list[tuple[int, int]] = []
        """Rows and tokens of each pass."""
        self.fault: Exception | None = None
        self.before = lambda ids: None
        """Called at the start of each pass."""
        self._wrong_every = wrong_every
        self.unloaded = False

    def forward_chunk(self, input_ids, attn_params, cache, preprocess_only=False, **more):
        """As exllamav2 calls it."""
        pages = cache.key_states[0].view(-1, 256)
        out = self._pass(input_ids, pages, attn_params.block_index, attn_params.cache_seqlens)
        return {} if preprocess_only else {"logits": out}

    def prefill(self, input_ids, params):
        """As exllamav3 calls it; so are the next ones."""
        self.forward(input_ids, params)

    def forward(self, input_ids, params):
        return self._pass(input_ids, params["cache"].numbers, params["block_table"], params["cache_seqlens"])

    def get_cache_layers(self):
        return []

    def prefetch_tokens(self, tokens):
        pass

    def _pass(self, input_ids, pages, tables, lengths):
        self.before(input_ids)
        if self.fault is not None:
            raise self.fault
        rows, count = input_ids.shape
        self.passes.append((rows, count))
        out = torch.zeros(rows, count, PADDED)
        for row in range(rows):
            past = int(lengths[row])
            table = tables[row].long()
            held = pages[table].flatten()
            total, last = int(held[:past].sum()), int(held[past - 1]) if past else 0
            fresh = []
            for i, token in enumerate(input_ids[row].tolist()):
                last = step(last, token)
                total += last
                fresh.append(float(last))
                shift = self._wrong_every and (past + i) % self._wrong_every == 0
                out[row, i] = logits(total, last + 1 if shift else last)
            places = torch.arange(past, past + count)
            pages[table[places // 256], places % 256] = torch.tensor(fresh)
        return out

    def unload(self) -> None:
        self.unloaded = True
