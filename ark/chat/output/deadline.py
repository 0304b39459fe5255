"""An end for replies that take too long."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio

from ark.engines.chat import TokenBatch


async def within(
    batches: AsyncGenerator[TokenBatch, None], seconds: float, *, n: int = 1
) -> AsyncGenerator[TokenBatch, None]:
    """The batches of a job of `n` replies, for so many seconds from the first token on.

    Then the job is cancelled, and the replies that go on end with the finish reason ``length``: what clients know as an
    answer that is good as far as it goes.
    """
    going = set(range(n))
    deadline = math.inf
    async with aclosing(batches):
        while going:
            late = False
            if deadline == math.inf:
                batch = await anext(batches, None)
            elif anyio.current_time() >= deadline:
                # A generator that never waits is not stopped by the scope.
                late = True
            else:
                # Not around the `yield`: there a scope would cancel whoever reads.
                with anyio.CancelScope(deadline=deadline) as scope:
                    batch = await anext(batches, None)
                late = scope.cancelled_caught
            if late:
                for index in sorted(going):
                    yield TokenBatch(index=index, finish_reason="length")
                return
            if batch is None:
                return
            if batch.finish_reason is not None:
                going.discard(batch.index)
            yield batch
            if batch.token_ids and deadline == math.inf:
                deadline = anyio.current_time() + seconds
