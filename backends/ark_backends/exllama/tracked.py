"""What ARK adds to a job of either generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ark_backends.exllama.options import PAGE
from ark_backends.exllama.pages import Pages, owned
from ark_backends.exllama.reply import Reply


class Tracked:
    """Mixed in before a generator's own class of jobs: its logits pass through the reply's `SamplingState`, its tokens
    are taken as they are chosen, and its pages belong to an owner and to a session.

    The attributes are set behind the constructor, because exllamav3 calls that again on a job that goes on.
    """

    if TYPE_CHECKING:
        # The generator's own; both have these.
        cached_pages: int
        cached_tokens: int
        new_tokens: int
        sequences: list[Any]

    reply: Reply
    pages: Pages
    checks = True
    """Check at once that the logits of every token are finite, not only those of the first."""
    floor: float | None = None
    """The lowest logit, where the generator takes minus infinity for a fault."""
    begun = False
    """Part of its prompt has been looked up or computed."""
    failed = False
    """It was in a step that failed."""

    @property
    def cached(self) -> int:
        """Prompt tokens whose KV was cached."""
        return self.cached_pages * PAGE + self.cached_tokens

    @property
    def read(self) -> int:
        """Tokens of the prompt that have KV."""
        position: int = self.sequences[0].kv_position
        return position

    @property
    def ids(self) -> list[int]:
        """Prompt and generated tokens."""
        ids: list[int] = self.sequences[0].sequence_ids.torch()[0].tolist()
        return ids

    def prepare_for_queue(self, *args: Any, **more: Any) -> None:
        with owned(self.reply.job.owner):
            super().prepare_for_queue(*args, **more)  # type: ignore[misc]

    def prefill(self, *args: Any, **more: Any) -> None:
        owner = self.reply.job.owner
        with owned(owner), self.pages.shown_to(owner):
            super().prefill(*args, **more)  # type: ignore[misc]
        self.begun = True
        self._link()
        self.pages.wrote(owner, self.sequences[0].allocated_pages[0])

    def receive_logits(self, logits: Any) -> Any:
        check = self.checks or self.new_tokens < 1
        row = logits[0]
        processed = self.reply.sampling.process(row, check=check)
        if self.floor is not None and processed is not row:
            processed = processed.clamp(min=self.floor)
        return super().receive_logits(processed[None])  # type: ignore[misc]

    def receive_sample(self, logits: Any, next_token: Any, *args: Any) -> Any:
        owner = self.reply.job.owner
        self.reply.sampling.accept(int(next_token))
        with owned(owner):
            result = super().receive_sample(logits, next_token, *args)  # type: ignore[misc]
        self.pages.wrote(owner, self.sequences[0].allocated_pages[0])
        return result

    def _link(self) -> None:
        """Chain an empty page to the full one before it.

        The generators do not where a prompt ends with a cached page. What is then generated would be taken for the
        beginning of a conversation, and its KV for that of any prompt, of any owner, that begins so.
        """
        sequence = self.sequences[0]
        place, within = divmod(sequence.kv_position, PAGE)
        if place and not within and not sequence.allocated_pages[place].kv_position:
            sequence.allocated_pages[place].prev_hash = sequence.allocated_pages[place - 1].phash

    def deallocate_pages(self) -> None:
        sequence = self.sequences[0]
        pages = list(sequence.allocated_pages or ())
        expected = [(page, page.phash_revert if page.can_revert else page.phash, not page.can_revert) for page in pages]
        super().deallocate_pages()  # type: ignore[misc]
        if self.failed:
            self.pages.empty(page for page, _, written in expected[sequence.kv_position // PAGE :] if written)
        elif pages:
            self.pages.left(self.reply.job.session, expected, released=self.reply.released)
