"""The text of GET /metrics.

Names are vLLM's where the meaning is the same, with the prefix ``ark:``. The values of labels are the server's own:
served models, routes and codes, and nothing that a client sends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ark import __version__
from ark.engines.chat import BackendStatus
from ark.engines.embedding import EmbeddingStatus
from ark.models.served import AnyServed, Registry
from ark.ops.limits import Limiter
from ark.ops.requests import RequestMetrics
from ark.sessions.conversations import ConversationStore
from ark.sessions.matching import Found
from ark.sessions.responses import ResponseStore
from ark.sessions.service import Sessions

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()

Kind = type[GaugeMetricFamily] | type[CounterMetricFamily]
GAUGE, COUNTER = GaugeMetricFamily, CounterMetricFamily


class Metrics(Collector):
    """The metrics of one running server: a process may run several."""

    def __init__(
        self,
        registry: Registry,
        sessions: Sessions,
        responses: ResponseStore,
        conversations: ConversationStore,
        limiter: Limiter,
    ) -> None:
        self._models = registry
        self._sessions = sessions
        self._responses = responses
        self._conversations = conversations
        self._limiter = limiter
        self.evicted: dict[str, int] = {}
        """Sessions that the store dropped, by cause."""
        self.requests = RequestMetrics()
        for served in registry.models:
            self.requests.add_model(served.name, chat=served.config.task == "chat")
        self._process = ProcessCollector(registry=None)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("ark:build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from self._serving()
        yield from _engines(self._models.models)
        yield from self.requests.collect()
        yield from self._process.collect()

    def _serving(self) -> Iterator[Metric]:
        sessions, running = self._sessions, self._limiter.running
        yield GAUGE("ark:sessions", "Sessions live.", value=len(sessions.store))
        yield GAUGE("ark:session_bytes", "Bytes of all transcripts.", value=sessions.store.size)
        evicted = COUNTER("ark:sessions_evicted", "Sessions dropped, by cause.", labels=["cause"])
        for cause, count in sorted(self.evicted.items()):
            evicted.add_metric([cause], count)
        yield evicted
        found = COUNTER("ark:session_turns", "Turns of sessions, by what found the conversation.", labels=["found"])
        for by in get_args(Found):
            found.add_metric([by], sessions.found[by])
        yield found
        responses = self._responses
        yield GAUGE("ark:responses", "Responses and chat completions stored.", value=len(responses))
        yield GAUGE("ark:response_bytes", "Bytes of all stored responses.", value=responses.size)
        expired = COUNTER("ark:responses_evicted", "Stored responses dropped, by cause.", labels=["cause"])
        for cause, count in sorted(responses.evicted.items()):
            expired.add_metric([cause], count)
        yield expired
        conversations = self._conversations
        yield GAUGE("ark:conversations", "Conversations of /conversations stored.", value=len(conversations))
        yield GAUGE("ark:conversation_bytes", "Bytes of all their items.", value=conversations.size)
        rebuilds, failures = sessions.rebuilds, sessions.write_failures
        yield COUNTER("ark:session_rebuilds", "Turns whose dropped state was computed again.", value=rebuilds)
        yield COUNTER("ark:session_write_failures", "Turns that could not be written to disk.", value=failures)
        yield GAUGE("ark:requests_in_hand", "Requests for an engine's work being served.", value=running)


def _engines(models: Sequence[AnyServed]) -> Iterator[Metric]:
    """The metrics of all models; of their engines where they are open."""
    ready = GAUGE("ark:model_ready", "1 while the model answers.", labels=["model_name", "task"])
    for served in models:
        ready.add_metric([served.name, served.config.task], float(served.state == "ready"))
    yield ready
    opened: list[tuple[AnyServed, Any]] = [
        (served, served.backend.status()) for served in models if served.backend is not None
    ]
    labels = ["model_name", "outcome"]
    jobs = COUNTER("ark:engine_jobs", "Jobs that have ended, by how they did.", labels=labels)
    for served, status in opened:
        for outcome in ("finished", "cancelled", "failed"):
            jobs.add_metric([served.name, outcome], getattr(status, f"jobs_{outcome}"))
    yield jobs
    yield from _upstreams(opened)
    for task, metrics in ENGINE_METRICS.items():
        statuses = [(served.name, status) for served, status in opened if served.config.task == task]
        for kind, name, text, value in metrics:
            metric = kind(f"ark:{name}", text, labels=["model_name"])
            for model, status in statuses:
                metric.add_metric([model], value(status) if callable(value) else getattr(status, value))
            yield metric


def _upstreams(opened: Sequence[tuple[AnyServed, Any]]) -> Iterator[Metric]:
    """The metrics of engines elsewhere."""
    found = [([served.name, one.url], one) for served, status in opened for one in status.upstreams]
    labels = ["model_name", "url"]
    up = GAUGE("ark:upstream_up", "1 while an engine elsewhere is well.", labels=labels)
    running = GAUGE("ark:upstream_jobs_running", "Jobs at an engine elsewhere.", labels=labels)
    jobs = COUNTER("ark:upstream_jobs", "Jobs that have ended there, by how they did.", labels=[*labels, "outcome"])
    for place, one in found:
        up.add_metric(place, float(one.up))
        running.add_metric(place, one.running)
        for outcome in ("finished", "cancelled", "failed"):
            jobs.add_metric([*place, outcome], getattr(one, outcome))
    yield from (up, running, jobs)


def _kv_usage(status: BackendStatus) -> float:
    return status.kv_bytes / status.kv_budget if status.kv_budget else 0.0


def _prompt_tokens(status: BackendStatus) -> float:
    return status.prompt_tokens_cached + status.prompt_tokens_computed


def _padded_share(status: EmbeddingStatus) -> float:
    places = status.tokens + status.padded_tokens
    return status.padded_tokens / places if places else 0.0


EngineMetric = tuple[Kind, str, str, str | Callable[[Any], float]]


def _batches(name: str, done: str) -> Sequence[EngineMetric]:
    """The metrics of an engine that computes inputs in batches."""
    return (
        (GAUGE, f"{name}_running", "Jobs of which a part is computed.", "running"),
        (GAUGE, f"{name}_waiting", "Jobs that wait for the engine.", "waiting"),
        (COUNTER, f"{name}_batches", "Batches computed.", "batches"),
        (COUNTER, f"{name}_inputs", f"Inputs {done}.", "inputs"),
        (COUNTER, f"{name}_tokens", "Tokens of these inputs.", "tokens"),
        (COUNTER, f"{name}_padded_tokens", "Places in batches that held no token.", "padded_tokens"),
        (GAUGE, f"{name}_padded_perc", "Share of places that held no token, 0 to 1.", _padded_share),
    )


ENGINE_METRICS: Mapping[str, Sequence[EngineMetric]] = {
    "chat": (
        (GAUGE, "num_requests_running", "Jobs that the engine computes.", "running"),
        (GAUGE, "num_requests_waiting", "Jobs that wait for the engine.", "waiting"),
        (GAUGE, "kv_cache_bytes", "Bytes of KV, of running jobs and retained states.", "kv_bytes"),
        (GAUGE, "kv_cache_usage_perc", "Share of the KV budget in use, 0 to 1.", _kv_usage),
        (COUNTER, "prefix_cache_queries", "Prompt tokens of all jobs.", _prompt_tokens),
        (COUNTER, "prefix_cache_hits", "Of them, tokens not computed again.", "prompt_tokens_cached"),
        (COUNTER, "prompt_tokens", "Prompt tokens of all jobs, cached ones too.", _prompt_tokens),
        (COUNTER, "prompt_tokens_computed", "Prompt tokens computed.", "prompt_tokens_computed"),
        (COUNTER, "generation_tokens", "Tokens generated.", "tokens_generated"),
        (COUNTER, "engine_steps", "Passes through the model.", "steps"),
    ),
    "embedding": _batches("embeddings", "embedded"),
    "rerank": _batches("rerank", "scored"),
    "transcription": (
        (GAUGE, "transcriptions_running", "Recordings that are being transcribed.", "running"),
        (GAUGE, "transcriptions_waiting", "Recordings that wait for the engine.", "waiting"),
        (COUNTER, "audio_seconds", "Seconds of sound transcribed.", "audio_seconds"),
        (COUNTER, "audio_segments", "Segments recognised.", "segments"),
    ),
}
"""Task to kind, name, text and value of a metric that each of its models has. The value is a field of the engine's
status, or computed from it."""
