"""What the engine asks of a generator of ExLlama's, of either version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from ark_backends.exllama.pages import Pages
from ark_backends.exllama.reply import Reply

Ended = tuple[Reply, Literal["stop", "length", "error"]]


class Face(Protocol):
    """A model and its generator. Used on the engine's thread, once it has been started."""

    @property
    def vocab_size(self) -> int:
        """Ids that the model can read."""
        ...

    @property
    def pages(self) -> Pages: ...

    @property
    def load(self) -> int:
        """Replies that the generator has, those that wait for pages included."""
        ...

    def begin(self, reply: Reply) -> None:
        """Queue a reply. It is not there if this raises."""
        ...

    def step(self) -> Sequence[Ended]:
        """Start what finds pages, compute a piece of each prompt, and a token for each reply that has read its own.

        Returns the replies that are over. It may raise anything; then `abandon` what was running.
        """
        ...

    def cancel(self, reply: Reply) -> None:
        """Take a reply out, with its pages noted for what they hold."""
        ...

    def running(self) -> Sequence[Reply]:
        """The replies that have pages."""
        ...

    def pending(self) -> Sequence[Reply]:
        """The replies that wait for pages."""
        ...

    def abandon(self, failed: Sequence[Reply]) -> None:
        """Take out replies that were in a failed step, and forget what it may have written. Does not raise."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
