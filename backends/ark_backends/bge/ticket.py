"""The one result that a job waits for, on its event loop."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from ark.engines.embedding import Embedding
from ark_backends.kit.results import poster

Result = Sequence[Embedding] | Exception


class Ticket:
    """Where the result of one job arrives. Made and read on the job's event loop."""

    def __init__(self, inputs: int) -> None:
        self.post = poster()
        self.inputs = inputs
        self.tokens = 0
        """Of all inputs, once they are tokenised."""
        self._arrived = anyio.Event()
        self._result: Result = ()

    def put(self, result: Result) -> None:
        """Runs on the job's event loop."""
        self._result = result
        self._arrived.set()

    async def get(self) -> Sequence[Embedding]:
        """The embeddings, in the order of the inputs. Raises the error that ended the job."""
        await self._arrived.wait()
        if isinstance(self._result, Exception):
            raise self._result
        return self._result
