"""From an engine's thread to the event loops that wait for what it computes.

An engine collects what a step has produced in an `Outbox` and flushes it once: one call into each event loop,
however many jobs got something. On the loop's side each job has a box of its own: for tokens a `Mailbox`, where what
the consumer has not read yet is merged into one batch. Works under asyncio (uvloop included) and trio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, TypeVar

import anyio
from anyio.lowlevel import current_token

from ark.engines.chat import TokenBatch, TokenLogprob
from ark.errors import APIError, Unavailable

Message = TokenBatch | Exception


class _Slot:
    """What one of a job's replies has produced and the consumer has not read."""

    __slots__ = ("finish_reason", "logprobs", "token_ids")

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self.finish_reason: Literal["stop", "length"] | None = None


class Mailbox:
    """What one job has produced and its consumer has not read. Made and read on the consumer's event loop."""

    def __init__(self, replies: int = 1) -> None:
        """`replies` is the job's `n`."""
        self.post = poster()
        self.replies = replies
        self._event = anyio.Event()
        self._admitted: TokenBatch | None = None
        self._slots: dict[int, _Slot] = {}
        """By the reply's index, in the order in which they got something to read."""
        self._error: Exception | None = None

    def put(self, message: Message) -> None:
        """Merge a message with what is there. Runs on the consumer's event loop."""
        if isinstance(message, Exception):
            self._error = message
        elif message.cached_tokens is not None:
            self._admitted = message
        else:
            slot = self._slots.setdefault(message.index, _Slot())
            slot.token_ids.extend(message.token_ids)
            slot.logprobs.extend(message.logprobs)
            slot.finish_reason = message.finish_reason
        self._event.set()

    async def get(self) -> TokenBatch:
        """The next batch: the admission by itself, then all tokens so far of one reply after the other. Raises the
        error that ended the job."""
        while True:
            if self._admitted is not None:
                batch, self._admitted = self._admitted, None
                return batch
            if self._slots:
                index = next(iter(self._slots))
                slot = self._slots.pop(index)
                return TokenBatch(
                    token_ids=tuple(slot.token_ids),
                    finish_reason=slot.finish_reason,
                    index=index,
                    logprobs=tuple(slot.logprobs),
                )
            if self._error is not None:
                raise self._error
            self._event = anyio.Event()
            await self._event.wait()


class Box(Protocol):
    """Where the messages for one job arrive, on its event loop."""

    @property
    def post(self) -> Poster: ...

    def put(self, message: Any) -> None: ...


B = TypeVar("B", bound=Box)


class Outbox(Generic[B]):
    """What the engine's thread has for its consumers. Used on that thread only."""

    def __init__(self) -> None:
        self._letters: list[tuple[B, Any]] = []

    def add(self, box: B, message: Any) -> None:
        self._letters.append((box, message))

    def flush(self) -> list[B]:
        """Hand everything over, one call per event loop. Returns the boxes whose loop is gone."""
        by_loop: dict[int, list[tuple[B, Any]]] = {}
        for letter in self._letters:
            by_loop.setdefault(letter[0].post.key, []).append(letter)
        self._letters = []
        lost: list[B] = []
        for letters in by_loop.values():
            try:
                letters[0][0].post(letters)
            except RuntimeError:  # the loop was closed with jobs still running
                lost.extend(box for box, _ in letters)
        return lost


def _deliver(letters: Sequence[tuple[Box, Any]]) -> None:
    for box, message in letters:
        box.put(message)


class Poster:
    """Runs `_deliver` on one event loop, from any thread, without waiting for it."""

    def __init__(self, key: int, schedule: Callable[..., object]) -> None:
        self.key = key
        self._schedule = schedule

    def __call__(self, letters: Sequence[tuple[Box, Any]]) -> None:
        self._schedule(_deliver, letters)


def poster() -> Poster:
    """The way into the event loop that runs."""
    native = current_token().native_token
    # asyncio's and uvloop's loops have the first method, trio's token the second; both may be called from any thread.
    schedule = getattr(native, "call_soon_threadsafe", None) or getattr(native, "run_sync_soon", None)
    if schedule is None:
        raise RuntimeError(f"cannot post into an event loop of type {type(native).__name__}")
    return Poster(id(native), schedule)


def engine_closed() -> APIError:
    """What those get who come to an engine that has been closed, or still wait for it."""
    return Unavailable("The model is being unloaded.", code="engine_closed")


def engine_failed() -> APIError:
    """What those get who come to an engine that died, or still wait for it."""
    return Unavailable("The model's engine has failed.", code="engine_failed")
