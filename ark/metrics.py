"""What GET /metrics tells: read from the server's parts when it is asked, so that counting costs requests nothing.

Names are vLLM's where the meaning is the same, with the prefix ``ark:``.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ark.backends import BackendStatus
from ark.registry import Registry
from ark.served import ServedChat
from ark.sessions.service import Sessions

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Metrics(Collector):
    """The metrics of one running server."""

    def __init__(self, registry: Registry, sessions: Sessions) -> None:
        self._models = registry
        self._sessions = sessions
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
        yield from self._engines()

    def _engines(self) -> Iterator[Metric]:
        opened = [
            (served.name, served.backend.status())
            for served in self._models.models
            if isinstance(served, ServedChat) and served.backend is not None
        ]

        def family(kind: type[Metric], name: str, text: str) -> Metric:
            metric: Metric = kind(name, text, labels=["model_name"])  # type: ignore[call-arg]
            for model, status in opened:
                metric.add_metric([model], _VALUES[name](status))  # type: ignore[attr-defined,no-untyped-call]
            return metric

        yield family(GaugeMetricFamily, "ark:num_requests_running", "Jobs that the engine computes.")
        yield family(GaugeMetricFamily, "ark:num_requests_waiting", "Jobs that wait for the engine.")
        yield family(GaugeMetricFamily, "ark:kv_cache_bytes", "Bytes of KV, of running jobs and retained states.")
        yield family(GaugeMetricFamily, "ark:kv_cache_usage_perc", "Share of the KV budget in use, 0 to 1.")
        yield family(CounterMetricFamily, "ark:prefix_cache_queries", "Prompt tokens of all jobs.")
        yield family(CounterMetricFamily, "ark:prefix_cache_hits", "Of them, tokens not computed again.")
        yield family(CounterMetricFamily, "ark:prompt_tokens_computed", "Prompt tokens computed.")
        yield family(CounterMetricFamily, "ark:generation_tokens", "Tokens generated.")


def _usage(status: BackendStatus) -> float:
    return status.kv_bytes / status.kv_budget if status.kv_budget else 0.0


_VALUES = {
    "ark:num_requests_running": lambda status: status.running,
    "ark:num_requests_waiting": lambda status: status.waiting,
    "ark:kv_cache_bytes": lambda status: status.kv_bytes,
    "ark:kv_cache_usage_perc": _usage,
    "ark:prefix_cache_queries": lambda status: status.prompt_tokens_cached + status.prompt_tokens_computed,
    "ark:prefix_cache_hits": lambda status: status.prompt_tokens_cached,
    "ark:prompt_tokens_computed": lambda status: status.prompt_tokens_computed,
    "ark:generation_tokens": lambda status: status.tokens_generated,
}
