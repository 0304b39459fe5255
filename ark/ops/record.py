"""What becomes of one request: its times and counts, kept while it is served and read once, when it is over.

Metrics and traces are made from it (`ark.ops.metrics`, `ark.ops.tracing`). Times are in seconds of
`time.perf_counter`; 0 for what has not come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from ark.engines.chat import TokenBatch
from ark.errors import APIError

Operation = Literal["chat", "embeddings", "transcription"]


class Meter(Protocol):
    """Told of tokens as they come."""

    @property
    def first_token(self) -> Callable[[float], None]:
        """Takes the seconds since the request arrived."""
        ...

    @property
    def next_token(self) -> Callable[[float], None]:
        """Takes the seconds since the token before, of the same reply."""
        ...


class Work:
    """What an engine does for a request."""

    def __init__(
        self, operation: Operation, model: str, body: msgspec.Struct, *, meter: Meter, arrived: float, replies: int
    ) -> None:
        self.operation = operation
        self.model = model
        """The served model's name, which is not always the name that was asked for."""
        self.body = body
        """The request as it was decoded."""
        self.asked = 0.0
        """When the engine got the job."""
        self.admitted = 0.0
        """When it began with it, as far as it tells."""
        self.first = 0.0
        """When the first token came."""
        self.last = 0.0
        """When the last token came, or the whole result."""
        self.prompt_tokens = 0
        self.cached_tokens = 0
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.finish_reasons: Sequence[str | None] = [None] * replies
        """Of each reply; None for one that was broken off."""
        self.response_id = ""
        self.session: str | None = None
        self._meter = meter
        self._arrived = arrived
        self._before: dict[int, float] = {}

    def ask(self) -> None:
        """The engine gets the job now."""
        self.asked = time.perf_counter()

    def finish(self, *, prompt_tokens: int) -> None:
        """The engine has done its work, for a task that has no tokens to tell of."""
        self.last = time.perf_counter()
        self.prompt_tokens = prompt_tokens
        self.finish_reasons = ["stop"]

    @property
    def time_to_first_token(self) -> float:
        """Seconds since the request arrived."""
        return self.first - self._arrived

    def batch(self, batch: TokenBatch) -> None:
        """A batch has come. As in vLLM, the tokens that come at once are one step."""
        now = time.perf_counter()
        if batch.cached_tokens is not None and not self.admitted:
            self.admitted = now
        if not batch.token_ids:
            return
        before = self._before.get(batch.index)
        if before is not None:
            self._meter.next_token(now - before)
        elif not self._before:
            self.first = now
            self._meter.first_token(now - self._arrived)
        self._before[batch.index] = self.last = now


class Record:
    """One request, from its head to the last byte of its reply."""

    def __init__(self, id: str, method: str, scheme: str, headers: Mapping[bytes, bytes]) -> None:
        self.id = id
        self.method = method
        self.scheme = scheme
        self.headers = headers
        self.wall = time.time_ns()
        """Unix time of `begun`, in nanoseconds."""
        self.begun = time.perf_counter()
        self.arrived = self.begun
        """When the whole request was there, its body too: what a slow client takes to send it is not ARK's."""
        self.ended = 0.0
        self.route: str | None = None
        """The path of `ark.api.routes`, None where there is none."""
        self.status = 0
        """Of the reply; 0 where none was begun."""
        self.disconnected = False
        """The client left before it had the whole reply."""
        # Not the error itself: its traceback has the frames of all who handled the request, with the whole of it, and
        # in them this record, so that only the collector of garbage would let it go.
        self.error_status: int | None = None
        """Of what the client was told, before a stream or in it."""
        self.error_code: str | None = None
        self.reason: str | None = None
        """What went wrong, in one word of a fixed set."""
        self.work: Work | None = None
        """There once the request has named a model that it may use."""
        self.trace_id: str | None = None
        """Of the trace that the request is in, where there are traces; 32 hexadecimal digits."""

    def begin(self, operation: Operation, model: str, body: msgspec.Struct, *, meter: Meter, replies: int = 1) -> Work:
        """The request is for a served model."""
        self.work = Work(operation, model, body, meter=meter, arrived=self.arrived, replies=replies)
        return self.work

    def arrive(self) -> None:
        """The body has been read."""
        self.arrived = time.perf_counter()

    def fail(self, error: APIError) -> None:
        """The client is told of an error."""
        self.error_status, self.error_code = error.status, error.code
        self.reason = error.reason or error.code or error.type

    def end(self, *, status: int, disconnected: bool, error: str | None) -> None:
        """Nothing more is sent."""
        self.ended = time.perf_counter()
        self.status, self.disconnected = status, disconnected
        self.reason = self.reason or error

    @property
    def failed(self) -> bool:
        """The server is to blame for what went wrong."""
        return self.error_status is not None and self.error_status >= 500

    @property
    def whole(self) -> bool:
        """The client got all that it asked for."""
        return not self.disconnected and self.error_status is None
