"""Stand-ins in torch for what exllamav2's generator needs of its compiled extension, so that it runs on a CPU."""

from __future__ import annotations

import importlib.machinery
import itertools
import sys
import types

import torch


def install() -> None:
    """Make exllamav2 importable on a machine without a GPU."""
    name = "exllamav2_ext"
    if name in sys.modules:
        return
    stub = _Stub(name)
    stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules[name] = stub
    from exllamav2 import attn

    attn.has_flash_attn_with_paged = True


def __getattr__(name):
    """`Cache`, once exllamav2 can be imported."""
    if name != "Cache":
        raise AttributeError(name)
    from exllamav2.cache import ExLlamaV2CacheBase

    class Cache(ExLlamaV2CacheBase):
        """One layer with one number for each token, in float32."""

        def __init__(self, model, tokens):
            super().__init__(model, 1, tokens, torch.float32, 1, 1, False)
            self.create_state_tensors(None)

        def all_tensors(self):
            return [*self.key_states, *self.value_states]

    return Cache


class _Stub(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") or name not in _FUNCTIONS:
            raise AttributeError(name)
        return _FUNCTIONS[name]


def count_match(a, b, max_a):
    limit = min(max_a, a.shape[1], b.shape[1])
    differ = (a[0, :limit] != b[0, :limit]).nonzero()
    return int(differ[0]) if len(differ) else limit


def cache_rotate(cache, order, buffer):
    order = order.tolist()
    kept = cache[order[0]].clone()
    for to, source in itertools.pairwise(order):
        cache[to] = cache[source]
    cache[order[-1]] = kept


def sample_basic(*arguments):
    """The steps that ARK uses, in the order of the original."""
    logits, temperature, top_k, top_p, _, min_p, _, _, random, tokens, probs = arguments[:11]
    if temperature < 0.01:
        temperature, top_k = 1.0, 1
    ranked, ids = torch.softmax(logits[0, 0].double() / temperature, dim=-1).sort(descending=True, stable=True)
    if 0 < top_k < len(ranked):
        ranked, ids = ranked[:top_k], ids[:top_k]
        ranked = ranked / ranked.sum()
    if 0.0 < top_p < 1.0:
        kept = int((ranked.cumsum(0) - ranked < top_p).sum())
        ranked, ids = ranked[:kept], ids[:kept]
        ranked = ranked / ranked.sum()
    if 0.0 < min_p < 1.0:
        kept = int((ranked >= ranked[0] * min_p).sum())
        ranked, ids = ranked[:kept], ids[:kept]
        ranked = ranked / ranked.sum()
    place = int(torch.searchsorted(ranked.cumsum(0), torch.tensor(random * 0.9998, dtype=torch.double)))
    tokens[0, 0] = ids[min(place, len(ids) - 1)]
    probs[0, 0] = ranked[min(place, len(ids) - 1)]
    return []


_FUNCTIONS = {"count_match": count_match, "cache_rotate": cache_rotate, "sample_basic": sample_basic}
