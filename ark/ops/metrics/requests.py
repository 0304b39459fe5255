"""What happens to requests: observed while they are served, and counted when they are over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from ark.models.registry import AnyServed
from ark.ops.record import Record, Work

Observe = Callable[[float], None]

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

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

FINISHED = ("stop", "length", "abort", "error")
"""The reasons of vLLM that ARK has. To the engine a reply that calls tools has stopped; it is aborted when the client
leaves or the server stops, and ends with an error when the engine fails."""

MAX_REASONS = 100
"""Reasons of errors that are told apart. They are codes in the code; this holds a backend that makes them up."""


class RequestMetrics:
    """Counters and histograms of one running server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        model = ["model_name"]
        self._http = Counter(
            "ark:http_requests",
            "Requests by route, method and status; 499 where the client left before it had the whole reply.",
            ["route", "method", "status"],
            registry=registry,
        )
        self._refused = Counter(
            "ark:requests_refused",
            "Requests that did not get what they asked for, by reason: the limit, or the code of the error.",
            ["reason"],
            registry=registry,
        )
        self._success = Counter(
            "ark:request_success",
            "Replies of engines, by how they ended.",
            ["model_name", "finished_reason"],
            registry=registry,
        )

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, model, registry=registry, buckets=buckets)

        self._latency = histogram(
            "ark:e2e_request_latency_seconds", "From a request's arrival to the last byte of its reply.", LATENCY
        )
        self._first_token = histogram(
            "ark:time_to_first_token_seconds", "From a request's arrival to its first token.", FIRST_TOKEN
        )
        self._next_token = histogram(
            "ark:inter_token_latency_seconds", "From one token of a reply to the next.", NEXT_TOKEN
        )
        self._queue = histogram(
            "ark:request_queue_time_seconds", "From when the engine gets a job until it begins.", LATENCY
        )
        self._prefill = histogram(
            "ark:request_prefill_time_seconds", "From when the engine begins a job to the first token.", LATENCY
        )
        self._decode = histogram("ark:request_decode_time_seconds", "From the first token to the last.", LATENCY)
        self._prompt = histogram("ark:request_prompt_tokens", "Tokens of a request's prompt.", TOKENS)
        self._generation = histogram("ark:request_generation_tokens", "Tokens of all replies to a request.", TOKENS)
        self._reasons: set[str] = set()
        self.meters: dict[str, ModelMeter] = {}
        """By the name of the served model."""

    def add_model(self, served: AnyServed) -> None:
        """Make what a model's requests are measured with. Its metrics are there from now on, at 0."""
        name = served.name

        def bound(metric: Histogram) -> Observe:
            return metric.labels(name).observe if served.config.task == "chat" else _pass_over

        self.meters[name] = ModelMeter(
            finished={reason: self._success.labels(name, reason) for reason in FINISHED},
            latency=self._latency.labels(name).observe,
            first_token=bound(self._first_token),
            next_token=bound(self._next_token),
            queue=bound(self._queue),
            prefill=bound(self._prefill),
            decode=bound(self._decode),
            prompt=bound(self._prompt),
            generation=bound(self._generation),
        )

    def add(self, record: Record) -> None:
        """Count a request that is over."""
        method = record.method if record.method in METHODS else "other"
        status = 499 if record.disconnected else record.status
        self._http.labels(record.route or "none", method, str(status)).inc()
        if record.reason is not None:
            self._refused.labels(self._bounded(record.reason)).inc()
        if record.work is not None and record.work.asked:
            self._add_work(record, record.work)

    def _add_work(self, record: Record, work: Work) -> None:
        if record.error_status is not None and not record.failed:
            # The engine would not have it.
            return
        broken = "abort" if record.error_status is None or record.error_code == "draining" else "error"
        meter = self.meters[work.model]
        for reason in work.finish_reasons:
            told = broken if reason is None else reason
            meter.finished[told if told in FINISHED else "stop"].inc()
        if not record.whole:
            return
        meter.latency(record.ended - record.arrived)
        meter.prompt(work.prompt_tokens)
        meter.generation(work.completion_tokens)
        if work.admitted and work.first:
            meter.queue(work.admitted - work.asked)
            meter.prefill(work.first - work.admitted)
            meter.decode(work.last - work.first)

    def _bounded(self, reason: str) -> str:
        if reason not in self._reasons and len(self._reasons) >= MAX_REASONS:
            return "other"
        self._reasons.add(reason)
        return reason


@dataclass(frozen=True)
class ModelMeter:
    """The metrics of one model. They are looked up once: each request is told to most of them, each token to one."""

    finished: Mapping[str, Counter]
    """Replies, by the reasons of `FINISHED`."""
    latency: Observe
    first_token: Observe
    next_token: Observe
    queue: Observe
    prefill: Observe
    decode: Observe
    prompt: Observe
    generation: Observe


def _pass_over(_: float) -> None:
    """In place of what is measured of chat models alone."""
