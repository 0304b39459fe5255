"""The door of a chat engine: which jobs are in, whether more may come, and what has become of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ark.engines.chat import GenerationJob
from ark.errors import APIError, BadRequest, ContextLengthExceeded, TooManyRequests
from ark_backends.kit.results import Mailbox, engine_failed


@dataclass
class Counters:
    """What an engine has done, as `ark.engines.chat.BackendStatus` tells it. Counted on the engine's thread."""

    steps: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0
    tokens_generated: int = 0
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0


class Door:
    """The jobs that are in an engine. Used from any thread.

    What is to be put into the engine's inbox is put there while the door is locked, so that nothing comes in behind
    the message that ends the engine.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[Mailbox] = set()
        # Makes the error of those who come now. Each gets its own: an exception that is raised again keeps the frames
        # of all who raised it, and with them their requests.
        self._shut: Callable[[], APIError] | None = None

    @property
    def open(self) -> bool:
        return self._shut is None

    @property
    def replies(self) -> int:
        """Of the jobs that are in, running and waiting."""
        with self._lock:
            return self._count()

    def enter(self, mailbox: Mailbox, places: int, put: Callable[[], None]) -> None:
        """Let a job in and put it into the inbox. Raises TooManyRequests when its replies find no place, and the
        reason when the door is closed. A job alone always finds one."""
        with self._lock:
            if self._shut is not None:
                raise self._shut()
            if self._inside and self._count() + mailbox.replies > places:
                raise TooManyRequests("Too many requests are waiting for this model.", code="queue_full")
            self._inside.add(mailbox)
            put()

    def if_inside(self, mailbox: Mailbox, put: Callable[[], None]) -> None:
        """Put something into the inbox if the job is still in."""
        with self._lock:
            if mailbox in self._inside:
                put()

    def leave(self, mailbox: Mailbox) -> None:
        with self._lock:
            self._inside.discard(mailbox)

    def close(self, reason: Callable[[], APIError]) -> None:
        """Let nobody in any more; the first reason stays."""
        with self._lock:
            if self._shut is None:
                self._shut = reason

    def empty(self) -> list[tuple[Mailbox, APIError]]:
        """Take out all jobs, each with the error that it gets, and let nobody in any more."""
        self.close(engine_failed)
        with self._lock:
            left, self._inside = list(self._inside), set()
            reason = self._shut or engine_failed
        return [(mailbox, reason()) for mailbox in left]

    def _count(self) -> int:
        return sum(mailbox.replies for mailbox in self._inside)


def check_job(job: GenerationJob, *, vocab_size: int, context_length: int) -> int:
    """Refuse a job that no engine could run. Returns its tokens, those to be generated included.

    Raises BadRequest, and ContextLengthExceeded where it is too long.
    """
    if not job.prompt or job.max_tokens < 1 or job.n < 1:
        raise BadRequest("A prompt of at least one token, max_tokens and n of at least 1 are needed.")
    if min(job.prompt) < 0 or max(job.prompt) >= vocab_size:
        # Out of range, the lookup would fail the whole step, and on a GPU the process.
        raise BadRequest("The prompt has a token id that the model does not know.")
    total = len(job.prompt) + job.max_tokens
    if total > context_length:
        raise ContextLengthExceeded(
            f"This model reads and writes at most {context_length} tokens; "
            f"{len(job.prompt)} in the prompt and {job.max_tokens} to generate are {total}."
        )
    return total
