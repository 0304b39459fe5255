"""Stand-ins for what exllamav3's generator needs of its compiled extension and of triton, so that it runs on a CPU."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
import types

import torch
from exllamav2_stub import count_match


def install() -> None:
    """Make exllamav3 importable, and its generator runnable, on a machine without a GPU."""
    if "exllamav3.ext" in sys.modules:
        return
    # The fused sampler is one kernel; the separate steps are torch.
    os.environ["EXL3_FUSED_SAMPLER"] = "0"
    before = set(sys.modules)
    if importlib.util.find_spec("triton") is None:
        sys.modules["triton"] = _Decorators("triton")
        sys.modules["triton.language"] = sys.modules["triton"].language
    compiled = types.ModuleType("exllamav3.ext")
    compiled.exllamav3_ext = _Functions("exllamav3_ext")
    sys.modules["exllamav3.ext"] = compiled
    import exllamav3  # noqa: F401
    from exllamav3.generator import generator, job

    generator.torch = job.torch = _Unpinned()
    # Other packages that look for triton must not find the stand-in.
    for name in set(sys.modules) - before:
        if isinstance(sys.modules[name], _Decorators):
            del sys.modules[name]


class Cache:
    """One number for each token, in float32."""

    def __init__(self, model, tokens):
        self.model = model
        self.max_num_tokens = tokens
        self.initialized = True
        self.numbers = torch.zeros(tokens // 256, 256)

    def copy_page(self, source, from_page, to_page, count):
        self.numbers[to_page, :count] = source.numbers[from_page, :count]

    def get_all_tensors(self):
        return [self.numbers]


class _Unpinned:
    """torch without what needs a GPU: page-locked memory and synchronization."""

    cuda = types.SimpleNamespace(synchronize=lambda device=None: None)

    def __getattr__(self, name):
        return getattr(torch, name)

    def empty(self, *shape, pin_memory=False, **more):
        return torch.empty(*shape, **more)

    def zeros(self, *shape, pin_memory=False, **more):
        return torch.zeros(*shape, **more)


class _Decorators(types.ModuleType):
    """A module with any attribute; as a decorator it returns what it decorates."""

    __version__ = "3.5.0"

    def __init__(self, name):
        super().__init__(name)
        self.__path__ = []
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Decorators(f"{self.__name__}.{name}")
        sys.modules[made.__name__] = made
        setattr(self, name, made)
        return made

    def __call__(self, *arguments, **more):
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) and not more else self


class _Functions(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _FUNCTIONS.get(name, lambda *arguments, **more: _missing(name))


def _missing(name):
    raise NotImplementedError(name)


def generator_stage_decode(*arguments):
    arena, width, tables, lengths, _, batch_ids, ids, pages, places = arguments
    rows = len(tables)
    arena.zero_()
    for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        count = min(width, table.shape[1])
        arena[row * width : row * width + count] = table[0, :count]
        arena[rows * width + row] = length
    for row, (one, page, place) in enumerate(zip(ids, pages, places, strict=True)):
        batch_ids[row, 0] = page[0, place] = one[0, lengths[row]]


def _gumbel(values, out, seed):
    noise = torch.empty_like(out).exponential_(generator=torch.Generator().manual_seed(seed)).log().neg()
    out.copy_(values + noise)


def cache_rotate(cache, order, buffer):
    """Move pages, given as pairs of target and source; -1 is the buffer."""
    order = order.tolist()
    for target, source in zip(order[::2], order[1::2], strict=True):
        page = buffer.clone() if source == -1 else cache[source].clone()
        (buffer if target == -1 else cache[target]).copy_(page)


def apply_logit_bitmask(values, out, bits):
    places = torch.arange(values.shape[-1])
    words = torch.nn.functional.pad(bits, (0, max(0, values.shape[-1] // 32 + 1 - bits.shape[-1])))
    allowed = (words[0, places // 32] >> (places % 32)) & 1
    out.copy_(values.masked_fill(allowed == 0, float("-inf")))


_FUNCTIONS = {
    "apply_logit_bitmask": apply_logit_bitmask,
    "cache_rotate": cache_rotate,
    "count_match_tensor": count_match,
    "generator_stage_decode": generator_stage_decode,
    "gumbel_noise_f16": _gumbel,
    "gumbel_noise_f32": _gumbel,
    "gumbel_noise_log": lambda values, out, seed: _gumbel(values.log(), out, seed),
}
