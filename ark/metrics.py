"""What GET /metrics tells: read from the server's parts when it is asked, so that counting costs requests nothing.

Names are vLLM's where the meaning is the same, with the prefix ``ark:``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ark.backends import BackendStatus, EmbeddingStatus, Status
from ark.limits import Limiter
from ark.registry import Registry
from ark.served import ServedChat, ServedEmbedding
from ark.sessions.service import Sessions

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Metrics(Collector):
    """The metrics of one running server."""

    def __init__(self, registry: Registry, sessions: Sessions, limiter: Limiter) -> None:
        self._models = registry
        self._sessions = sessions
        self._limiter = limiter
        self.evicted: dict[str, int] = {}
        """Sessions that the store dropped, by cause."""
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        sessions = self._sessions
        yield GaugeMetricFamily("ark:sessions", "Sessions live.", value=len(sessions))
        yield GaugeMetricFamily("ark:session_bytes", "Bytes of all transcripts.", value=sessions.size)
        evicted = CounterMetricFamily("ark:sessions_evicted", "Sessions dropped, by cause.", labels=["cause"])
        for cause, count in sorted(self.evicted.items()):
            evicted.add_metric([cause], count)
        yield evicted
        yield CounterMetricFamily(
            "ark:session_rebuilds",
            "Turns whose dropped state was computed again.",
            value=sessions.rebuilds,
        )
        yield CounterMetricFamily(
            "ark:session_write_failures", "Turns that could not be written to disk.", value=sessions.write_failures
        )
        running = self._limiter.running
        yield GaugeMetricFamily("ark:requests_in_hand", "Requests for an engine's work being served.", value=running)
        refused = CounterMetricFamily("ark:requests_refused", "Requests over a limit, by limit.", labels=["limit"])
        for limit, count in sorted(self._limiter.refused.items()):
            refused.add_metric([limit], count)
        yield refused
        yield from _families(CHAT, self._statuses(ServedChat))
        yield from _families(EMBEDDINGS, self._statuses(ServedEmbedding))

    def _statuses(self, task: type[ServedChat] | type[ServedEmbedding]) -> list[tuple[str, Status]]:
        """The opened models of a task, each with its engine's counters."""
        return [
            (served.name, served.backend.status())
            for served in self._models.models
            if isinstance(served, task) and served.backend is not None
        ]


class Family(NamedTuple):
    """A metric that every model of a task has."""

    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    text: str
    value: Callable[[Any], float]
    """Reads it from the status of an engine."""


def _families(families: Sequence[Family], statuses: Sequence[tuple[str, Status]]) -> Iterator[Metric]:
    for family in families:
        metric = family.kind(family.name, family.text, labels=["model_name"])
        for model, status in statuses:
            metric.add_metric([model], family.value(status))
        yield metric


def _kv_usage(status: BackendStatus) -> float:
    return status.kv_bytes / status.kv_budget if status.kv_budget else 0.0


def _padded_share(status: EmbeddingStatus) -> float:
    places = status.tokens + status.padded_tokens
    return status.padded_tokens / places if places else 0.0


CHAT = (
    Family(GaugeMetricFamily, "ark:num_requests_running", "Jobs that the engine computes.", lambda s: s.running),
    Family(GaugeMetricFamily, "ark:num_requests_waiting", "Jobs that wait for the engine.", lambda s: s.waiting),
    Family(
        GaugeMetricFamily,
        "ark:kv_cache_bytes",
        "Bytes of KV, of running jobs and retained states.",
        lambda s: s.kv_bytes,
    ),
    Family(GaugeMetricFamily, "ark:kv_cache_usage_perc", "Share of the KV budget in use, 0 to 1.", _kv_usage),
    Family(
        CounterMetricFamily,
        "ark:prefix_cache_queries",
        "Prompt tokens of all jobs.",
        lambda s: s.prompt_tokens_cached + s.prompt_tokens_computed,
    ),
    Family(
        CounterMetricFamily,
        "ark:prefix_cache_hits",
        "Of them, tokens not computed again.",
        lambda s: s.prompt_tokens_cached,
    ),
    Family(
        CounterMetricFamily, "ark:prompt_tokens_computed", "Prompt tokens computed.", lambda s: s.prompt_tokens_computed
    ),
    Family(CounterMetricFamily, "ark:generation_tokens", "Tokens generated.", lambda s: s.tokens_generated),
)
"""Read from `BackendStatus`."""

EMBEDDINGS = (
    Family(GaugeMetricFamily, "ark:embeddings_running", "Jobs of which a part is computed.", lambda s: s.running),
    Family(GaugeMetricFamily, "ark:embeddings_waiting", "Jobs that wait for the engine.", lambda s: s.waiting),
    Family(CounterMetricFamily, "ark:embeddings_batches", "Batches computed.", lambda s: s.batches),
    Family(CounterMetricFamily, "ark:embeddings_inputs", "Inputs embedded.", lambda s: s.inputs),
    Family(CounterMetricFamily, "ark:embeddings_tokens", "Tokens of these inputs.", lambda s: s.tokens),
    Family(
        CounterMetricFamily,
        "ark:embeddings_padded_tokens",
        "Places in batches that held no token.",
        lambda s: s.padded_tokens,
    ),
    Family(
        GaugeMetricFamily, "ark:embeddings_padded_perc", "Share of places that held no token, 0 to 1.", _padded_share
    ),
)
"""Read from `EmbeddingStatus`."""
