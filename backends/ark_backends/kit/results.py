"""The way of results from an engine's thread to the event loops that wait for them.

An engine collects what a step produced in a `ResultBuffer` and flushes it once: one call into each event loop,
however many jobs got something. Works under asyncio, uvloop and trio.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from ark.engines.chat import TokenBatch

R = TypeVar("R")


class ResultQueue(Generic[R]):
    """The results of one job that its consumer has not read. Created and read on the consumer's event loop."""

    def __init__(self) -> None:
        loop = current_token().native_token
        # asyncio's and uvloop's loops have the first method, trio's token the second; both are safe from any thread.
        call_soon = getattr(loop, "call_soon_threadsafe", None) or getattr(loop, "run_sync_soon", None)
        if call_soon is None:
            raise RuntimeError(f"cannot call into an event loop of type {type(loop).__name__}")
        self.loop: object = loop
        self.call_soon: Callable[..., object] = call_soon
        """Calls a function on the loop. Raises RuntimeError once the loop is closed."""
        self.submitted = False
        """The engine has been given the job."""
        self._event = anyio.Event()
        self._results: deque[R] = deque()
        self._error: Exception | None = None

    def put(self, result: R | Exception) -> None:
        """Add a result, or the error that ended the job. Runs on the consumer's event loop."""
        if isinstance(result, Exception):
            self._error = result
        else:
            self._add(result)
        self._event.set()

    async def get(self) -> R:
        """The next result. Raises the error that ended the job once everything before it has been read."""
        while (result := self._take()) is None:
            if self._error is not None:
                raise self._error
            self._event = anyio.Event()
            await self._event.wait()
        return result

    def _add(self, result: R) -> None:
        self._results.append(result)

    def _take(self) -> R | None:
        return self._results.popleft() if self._results else None


class TokenQueue(ResultQueue[TokenBatch]):
    """The batches of a chat job. Unread batches of one reply are merged when they are read."""

    def __init__(self) -> None:
        super().__init__()
        self._unread: dict[int, list[TokenBatch]] = {}

    def _add(self, result: TokenBatch) -> None:
        # The admission is read by itself, before all tokens.
        key = result.index if result.cached_tokens is None else -1
        self._unread.setdefault(key, []).append(result)

    def _take(self) -> TokenBatch | None:
        if not self._unread:
            return None
        batches = self._unread.pop(next(iter(self._unread)))
        last = batches[-1]
        if len(batches) == 1:
            return last
        return TokenBatch(
            token_ids=tuple(token for batch in batches for token in batch.token_ids),
            cached_tokens=last.cached_tokens,
            finish_reason=last.finish_reason,
            index=last.index,
            logprobs=tuple(logprob for batch in batches for logprob in batch.logprobs),
            prompt_logprobs=tuple(logprob for batch in batches for logprob in batch.prompt_logprobs),
        )


class ResultBuffer:
    """The results of a step, for all its jobs. Used on the engine's thread only."""

    def __init__(self) -> None:
        self._entries: list[tuple[ResultQueue[Any], Any]] = []

    def add(self, queue: ResultQueue[R], result: R | Exception) -> None:
        self._entries.append((queue, result))

    def flush(self) -> list[ResultQueue[Any]]:
        """Deliver everything, with one call per event loop. Returns the queues whose loop is closed."""
        by_loop: dict[int, list[tuple[ResultQueue[Any], Any]]] = defaultdict(list)
        for entry in self._entries:
            by_loop[id(entry[0].loop)].append(entry)
        self._entries = []
        lost: list[ResultQueue[Any]] = []
        for entries in by_loop.values():
            try:
                entries[0][0].call_soon(_deliver, entries)
            except RuntimeError:  # the loop was closed with jobs still running
                lost.extend(queue for queue, _ in entries)
        return lost


def _deliver(entries: Sequence[tuple[ResultQueue[Any], Any]]) -> None:
    for queue, result in entries:
        queue.put(result)
