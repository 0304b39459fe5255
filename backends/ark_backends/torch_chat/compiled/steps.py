"""A decoder's weights as the kernels want them, and the threads that run a step together."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, TypeAlias

import numpy as np
import torch

from ark_backends.torch_chat.compiled.cache import again
from ark_backends.torch_chat.compiled.kernels import step
from ark_backends.torch_chat.compiled.simd import LANES
from ark_backends.torch_chat.compiled.tables import (
    BFLOAT16,
    BLOCK,
    COUNTERS,
    FLOAT32,
    INT8,
    OPEN,
    PART,
    PHASES,
    WIDEST,
    Inputs,
    Linears,
    Model,
    Work,
)
from ark_backends.torch_chat.decoder import Decoder
from ark_backends.torch_chat.int8 import Int8Linear
from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.linear import FloatLinear, Linear

log = logging.getLogger("ark.torch_chat")

TASKS = 8
"""Tasks for each thread that a linear layer is cut into, where it has the outputs."""

KINDS = {torch.int8: INT8, torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}

NOTICED = 2.0
"""Seconds of compiling from which on a line says what took so long."""

ROOM = 4
"""Tokens that there is room for at first."""

Step: TypeAlias = Callable[[Model, Work, Inputs, int], None]
Task: TypeAlias = tuple[Step, Model, Work, Inputs, int]


class Steps:
    """Computes steps of single tokens. Used on one thread, which others help."""

    def __init__(self, decoder: Decoder, spec: KVSpec, threads: int) -> None:
        """`threads` in all compute. The others end with this object."""
        self._decoder = decoder
        self._threads = threads
        self._held: list[torch.Tensor] = []
        self._model = self._tables(spec)
        self._work = self._room(ROOM, 1)
        self._step = self._compiled()
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        weakref.finalize(self, _dismiss, self._tasks, threads - 1).atexit = False
        for number in range(1, threads):
            helper = threading.Thread(target=_help, args=(self._tasks,), name=f"ark-step-{number}", daemon=True)
            helper.start()
            _helpers[helper] = self._tasks

    def __call__(self, token_ids: Sequence[int], sequences: Sequence[KVBuffer]) -> torch.Tensor:
        """Logits (tokens, vocabulary), float32, after one token of each sequence, whose keys and values are written
        behind the sequence's length. Raises ValueError where a sequence has no room for them."""
        kv = np.array([[one.data.data_ptr(), one.capacity, one.length] for one in sequences], dtype=np.int64)
        if (kv[:, 2] >= kv[:, 1]).any():
            # The kernels write where they are told.
            raise ValueError("a sequence has no room for another token")
        longest = int(kv[:, 2].max())
        with torch.inference_mode():
            cosine, sine = self._decoder.rope.at(torch.from_numpy(kv[:, 2].copy()), longest)
            x = self._decoder.embedded(torch.tensor(token_ids))
            logits = torch.empty(len(x), self._decoder.head_size, dtype=torch.float32)
        work = self._work_for(len(x), longest // PART + 1)
        work.x[: len(x)] = x.numpy()
        inputs = Inputs(
            tokens=len(x),
            kv=kv,
            cosine=cosine[:, 0].numpy(),
            sine=sine[:, 0].numpy(),
            logits=logits.numpy(),
            counters=self._counters(),
        )
        for thread in range(1, self._threads):
            self._tasks.put((self._step, self._model, work, inputs, thread))
        self._step(self._model, work, inputs, 0)
        return logits

    def _compiled(self) -> Step:
        """The function, which has computed a step of no tokens: only then may others call it."""
        begun = time.perf_counter()
        rotary = np.empty((0, self._model.head_dim), dtype=np.float32)
        logits = np.empty((0, self._decoder.head_size), dtype=np.float32)
        kv = np.empty((0, 3), dtype=np.int64)
        nothing = Inputs(tokens=0, kv=kv, cosine=rotary, sine=rotary, logits=logits, counters=self._counters())
        found: Step = step
        try:
            found(self._model, self._work, nothing, 0)
        except Exception as error:  # noqa: BLE001 - broken files, and those that cannot be written, fail in many ways
            log.info("compiled steps cannot be read or kept: %s", error)
            found = again(step)
            found(self._model, self._work, nothing._replace(counters=self._counters()), 0)
        taken = time.perf_counter() - begun
        if taken > NOTICED:
            log.info("steps were compiled in %.1f s", taken)
        return found

    def _counters(self) -> Any:
        # New ones for every step: who comes late looks at these, finds all done, and touches nothing else.
        return np.zeros((PHASES * len(self._model.linears.kind), COUNTERS), dtype=np.int64)

    def _tables(self, spec: KVSpec) -> Model:
        decoder = self._decoder
        norms = [norm for layer in decoder.layers for norm in (layer.before_attention, layer.before_mlp)]
        norms.append(decoder.norm)
        heads = [layer.head_norm for layer in decoder.layers if layer.head_norm is not None]
        linears = [linear for _, linear, _ in decoder.linears()]
        table = self._linears(linears)
        return Model(
            layers=len(decoder.layers),
            heads=decoder.heads,
            kv_heads=decoder.kv_heads,
            head_dim=decoder.head_dim,
            scale=np.float32(decoder.scale),
            epsilon=np.array([norm.epsilon for norm in norms], dtype=np.float32),
            gains=torch.stack([norm.gain for norm in norms]).numpy(),
            head_epsilon=np.array([norm.epsilon for norm in heads], dtype=np.float32),
            head_gains=torch.stack([norm.gain for norm in heads]).numpy() if heads else np.empty((0, 0, 0), np.float32),
            ones=np.ones(table.inputs.max(), dtype=np.float32),
            windows=np.array([window or 0 for window in spec.windows], dtype=np.int64),
            linears=table,
            scales=torch.cat([_scale(linear) for linear in linears]).numpy(),
            shifts=torch.cat([_shift(linear) for linear in linears]).numpy(),
            biases=torch.cat([_bias(linear) for linear in linears]).numpy(),
        )

    def _linears(self, linears: Sequence[Linear]) -> Linears:
        table = []
        first = 0
        for linear in linears:
            weight = _weight(linear)
            self._held.append(weight)
            outputs, inputs = weight.shape
            rows = WIDEST
            while rows > LANES and (outputs < TASKS * self._threads * rows or outputs % (2 * rows)):
                rows //= 2
            stride = inputs * weight.itemsize
            table.append((KINDS[weight.dtype], outputs, inputs, weight.data_ptr(), stride, first, rows))
            first += outputs
        return Linears(*np.array(table, dtype=np.int64).T.copy())

    def _work_for(self, tokens: int, parts: int) -> Work:
        """Room for so many tokens, and parts of their keys."""
        room = self._work.partial.shape[:2]
        if tokens > room[0] or parts > room[1]:
            # Twice as much as before, so that growing ends.
            room = (max(room[0], 2 * tokens), max(room[1], 2 * parts))
            self._work = self._room(*room)
        return self._work

    def _room(self, tokens: int, parts: int) -> Work:
        model = self._model
        hidden, width = model.gains.shape[1], len(model.ones)
        group = model.heads // model.kv_heads
        open_outputs = model.linears.outputs[OPEN]

        def floats(*shape: int) -> Any:
            return np.empty(shape, dtype=np.float32)

        return Work(
            x=floats(tokens, hidden),
            steps=np.empty((tokens, width), dtype=np.uint8),
            floats=floats(tokens, width),
            factors=floats(tokens),
            joined=floats(tokens, (model.heads + 2 * model.kv_heads) * model.head_dim),
            seen=floats(tokens, model.heads * model.head_dim),
            hidden=floats(tokens, open_outputs // 2),
            partial=floats(tokens, parts, model.kv_heads, group * (model.head_dim + 2)),
            sums=np.empty((self._threads, 2, tokens, WIDEST), dtype=np.int32),
            results=floats(self._threads, 2, tokens, WIDEST),
            queries=floats(self._threads, group, model.head_dim),
            weights=floats(self._threads, group, BLOCK),
        )


def _weight(linear: Linear) -> torch.Tensor:
    """(outputs, inputs), in the order in which it is read."""
    if isinstance(linear, Int8Linear):
        return linear.steps.contiguous()
    if isinstance(linear, FloatLinear):
        return linear.weight.contiguous()
    raise TypeError(f"there is no kernel for {type(linear).__name__}")


def _scale(linear: Linear) -> torch.Tensor:
    return linear.scale if isinstance(linear, Int8Linear) else torch.ones(len(_weight(linear)), dtype=torch.float32)


def _shift(linear: Linear) -> torch.Tensor:
    if isinstance(linear, Int8Linear):
        return linear.steps.sum(dim=1, dtype=torch.int32) * 128
    return torch.zeros(len(_weight(linear)), dtype=torch.int32)


def _bias(linear: Linear) -> torch.Tensor:
    assert isinstance(linear, Int8Linear | FloatLinear)
    if linear.bias is not None:
        return linear.bias.float()
    return torch.zeros(len(_weight(linear)), dtype=torch.float32)


_helpers: dict[threading.Thread, SimpleQueue[Task | None]] = {}
"""Those that have not ended, and where each finds its tasks."""


def _help(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        function, model, work, inputs, thread = task
        function(model, work, inputs, thread)
        # Nothing of a model is held while there is nothing to do.
        del task, function, model, work, inputs
    _helpers.pop(threading.current_thread(), None)


def _dismiss(tasks: SimpleQueue[Task | None], helpers: int) -> None:
    # Nobody waits for them here: garbage is collected on any thread, in the middle of whatever it does.
    for _ in range(helpers):
        tasks.put(None)


@atexit.register
def _end() -> None:
    """Wait for all of them: one that came out of compiled code while the interpreter ends would abort the process."""
    ending = list(_helpers.items())
    for _, tasks in ending:
        tasks.put(None)
    for helper, _ in ending:
        helper.join()
