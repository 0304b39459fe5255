"""Records of requests, and the metrics made of them.

A record is filled while its request is served, and read once, when it is over: here, and by `ark.ops.tracing`. Times
are in seconds of `time.perf_counter`; 0 for what has not happened.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal

import msgspec
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from ark.engines.chat import TokenBatch
from ark.errors import APIError

Operation = Literal["chat", "text_completion", "embeddings", "rerank", "transcription"]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

MAX_REASONS = 100
"""Distinct reasons of errors that are counted. They are constants of the code, unless a backend makes them up."""


@dataclass(kw_only=True)
class JobRecord:
    """What an engine does for a request."""

    operation: Operation
    model: str
    """The served model's name, which is not always the name that was asked for."""
    body: msgspec.Struct
    """The request as it was decoded."""
    meter: Meter
    arrived: float
    finish_reasons: Sequence[str | None]
    """Of each reply; None for one that was broken off."""
    asked: float = 0.0
    """When the engine got the job."""
    admitted: float = 0.0
    """When it began with it, as the first batch shows."""
    first: float = 0.0
    """When the first token came."""
    last: float = 0.0
    """When the last token came, or the whole result."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    response_id: str = ""
    session: str | None = None
    logged: Mapping[str, object] = field(default_factory=dict)
    """What the request's line in the log says of the job, beside the model."""
    _before: dict[int, float] = field(default_factory=dict)
    """When the last token of each reply came."""

    def ask(self) -> None:
        """The engine gets the job now."""
        self.asked = time.perf_counter()

    def batch(self, batch: TokenBatch) -> None:
        """A batch has arrived. As in vLLM, tokens that arrive together are one step."""
        now = time.perf_counter()
        if batch.cached_tokens is not None and not self.admitted:
            self.admitted = now
        if not batch.token_ids:
            return
        before = self._before.get(batch.index)
        if before is not None:
            self.meter["next_token"].observe(now - before)
        elif not self._before:
            self.first = now
            self.meter["first_token"].observe(now - self.arrived)
        self._before[batch.index] = self.last = now

    def finish(self, *, prompt_tokens: int) -> None:
        """The result of a task without token batches is here."""
        self.last = time.perf_counter()
        self.prompt_tokens = prompt_tokens
        self.finish_reasons = ["stop"]

    @property
    def time_to_first_token(self) -> float:
        """Seconds since the request arrived."""
        return self.first - self.arrived


@dataclass
class RequestRecord:
    """One request, from its head to the last byte of its response."""

    id: str
    method: str
    scheme: str
    headers: Mapping[bytes, bytes]
    wall: int = field(default_factory=time.time_ns)
    """Unix time of `begun`, in nanoseconds."""
    begun: float = field(default_factory=time.perf_counter)
    arrived: float = 0.0
    """When the whole request was there, body included: the time that a slow client takes to send it is not ARK's."""
    ended: float = 0.0
    route: str | None = None
    """The path of `ark.api.routes`, None where there is none."""
    status: int = 0
    """Of the response; 0 where none was begun."""
    disconnected: bool = False
    """The client left before it had the whole response."""
    # Not the error itself: its traceback has the frames of all who handled the request, and in them this record, so
    # that only Python's garbage collector would free the request.
    error_status: int | None = None
    """Of the error that the client was sent, before a stream or in it."""
    error_code: str | None = None
    reason: str | None = None
    """Of the error, one of a fixed set."""
    job: JobRecord | None = None
    """There once the request has named a model that it may use."""
    trace_id: str | None = None
    """Of the trace that the request is in, where there are traces; 32 hexadecimal digits."""

    def __post_init__(self) -> None:
        self.arrived = self.begun

    def begin(
        self, operation: Operation, model: str, body: msgspec.Struct, *, meters: Mapping[str, Meter], replies: int = 1
    ) -> JobRecord:
        """The request is for a served model."""
        self.job = JobRecord(
            operation=operation,
            model=model,
            body=body,
            meter=meters[model],
            arrived=self.arrived,
            finish_reasons=[None] * replies,
        )
        return self.job

    def arrive(self) -> None:
        """The body has been read."""
        self.arrived = time.perf_counter()

    def fail(self, error: APIError) -> None:
        """The client is sent an error."""
        self.error_status, self.error_code = error.status, error.code
        self.reason = error.reason or error.code or error.type

    def end(self, *, status: int, disconnected: bool, error: str | None) -> None:
        """Nothing more is sent."""
        self.ended = time.perf_counter()
        self.status, self.disconnected = status, disconnected
        self.reason = self.reason or error

    @property
    def failed(self) -> bool:
        """The error is the server's."""
        return self.error_status is not None and self.error_status >= 500

    @property
    def complete(self) -> bool:
        """The client got the whole response, without an error."""
        return not self.disconnected and self.error_status is None


FINISHED = ("stop", "length", "abort", "error")
"""vLLM's finish reasons that ARK has. A reply that calls tools is a ``stop``. With ``abort`` the client left or the
server stopped, and with ``error`` the engine failed."""

_FINE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2)
LATENCY = (*_FINE, 0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
"""Seconds, as in the next two: vLLM's bounds of buckets, so that its dashboards and alerts hold, and finer ones."""
FIRST_TOKEN = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80),
    *(160, 640, 2560),
)
NEXT_TOKEN = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5),
    *(10, 20, 40, 80),
)
TOKENS = tuple(mantissa * 10**exponent for exponent in range(6) for mantissa in (1, 2, 5))

_HISTOGRAMS = {
    "latency": ("e2e_request_latency_seconds", "From a request's arrival to the last byte of its response.", LATENCY),
    "first_token": ("time_to_first_token_seconds", "From a request's arrival to its first token.", FIRST_TOKEN),
    "next_token": ("inter_token_latency_seconds", "From one token of a reply to the next.", NEXT_TOKEN),
    "queue": ("request_queue_time_seconds", "From when the engine gets a job until it begins.", LATENCY),
    "prefill": ("request_prefill_time_seconds", "From when the engine begins a job to the first token.", LATENCY),
    "decode": ("request_decode_time_seconds", "From the first token to the last.", LATENCY),
    "prompt": ("request_prompt_tokens", "Tokens of a request's prompt.", TOKENS),
    "generation": ("request_generation_tokens", "Tokens of all replies to a request.", TOKENS),
}
"""Key of a `Meter` to name, text and buckets. All but the latency are of chat models alone."""

_COUNTERS = {
    "http_requests": (
        "Requests by route, method and status; 499 where the client left before it had the whole reply.",
        ("route", "method", "status"),
    ),
    "requests_refused": (
        "Requests that did not get what they asked for, by reason: the limit, or the code of the error.",
        ("reason",),
    ),
    "request_success": ("Replies of engines, by how they ended.", ("model_name", "finished_reason")),
}
"""Name to text and labels."""


class Histogram:
    """What a model's requests took. Only the event loop observes, and needs no lock: each token is observed."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = (*bounds, math.inf)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, model: str) -> None:
        buckets = zip(map(floatToGoString, self._bounds), accumulate(self._counts), strict=True)
        family.add_metric([model], list(buckets), self._sum)


Meter = Mapping[str, Histogram]
"""A model's histograms."""


class RequestMetrics:
    """Counters and histograms of one running server."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in _COUNTERS}
        self._chat: set[str] = set()
        self.models: dict[str, Meter] = {}
        """By the name of the served model."""

    def add_model(self, name: str, *, chat: bool) -> None:
        """Create a model's metrics, which are 0 from now on."""
        self._counts["request_success"].update({(name, reason): 0 for reason in FINISHED})
        self.models[name] = {key: Histogram(bounds) for key, (_, _, bounds) in _HISTOGRAMS.items()}
        if chat:
            self._chat.add(name)

    def collect(self) -> Iterator[Metric]:
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(f"ark:{name}", text, labels=labels)
            for values, count in self._counts[name].items():
                counter.add_metric(values, count)
            yield counter
        for key, (name, text, _) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(f"ark:{name}", text, labels=["model_name"])
            for model, meter in self.models.items():
                if key == "latency" or model in self._chat:
                    meter[key].add_to(family, model)
            yield family

    def add(self, record: RequestRecord) -> None:
        """Count a request that is over."""
        method = record.method if record.method in METHODS else "other"
        status = 499 if record.disconnected else record.status
        self._counts["http_requests"][record.route or "none", method, str(status)] += 1
        if record.reason is not None:
            refused = self._counts["requests_refused"]
            bounded = (record.reason,) in refused or len(refused) < MAX_REASONS
            refused[(record.reason if bounded else "other",)] += 1
        self.add_job(record)

    def add_job(self, record: RequestRecord) -> None:
        """Count what an engine did for a request that is over."""
        job = record.job
        # Without `asked` the request did not reach the engine, and with an error of the client the engine refused it.
        if job is None or not job.asked or (record.error_status is not None and not record.failed):
            return
        broken = "abort" if record.error_status is None or record.error_code == "draining" else "error"
        for reason in job.finish_reasons:
            known = broken if reason is None else reason
            self._counts["request_success"][job.model, known if known in FINISHED else "stop"] += 1
        if not record.complete:
            return
        seconds_and_tokens = {
            "latency": record.ended - record.arrived,
            "prompt": job.prompt_tokens,
            "generation": job.completion_tokens,
        }
        if job.admitted and job.first:
            seconds_and_tokens |= {
                "queue": job.admitted - job.asked,
                "prefill": job.first - job.admitted,
                "decode": job.last - job.first,
            }
        for key, value in seconds_and_tokens.items():
            job.meter[key].observe(value)
