"""What GET /metrics tells.

Names are vLLM's where the meaning is the same, with the prefix ``ark:``. Labels have values of the server's own: served
models, routes and codes, and nothing that a client sends.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ark import __version__
from ark.models.registry import Registry
from ark.ops.limits import Limiter
from ark.ops.metrics import engines
from ark.ops.metrics.requests import ModelMeter, RequestMetrics
from ark.ops.record import Record
from ark.sessions.service import Sessions

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()


class Metrics(Collector):
    """The metrics of one running server. They have a registry of their own, for a process may run several servers."""

    def __init__(self, registry: Registry, sessions: Sessions, limiter: Limiter) -> None:
        self._models = registry
        self._sessions = sessions
        self._limiter = limiter
        self.evicted: dict[str, int] = {}
        """Sessions that the store dropped, by cause."""
        self._registry = CollectorRegistry()
        self._requests = RequestMetrics(self._registry)
        for served in registry.models:
            self._requests.add_model(served)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self)

    def meter(self, model: str) -> ModelMeter:
        """What the requests of a served model are measured with."""
        return self._requests.meters[model]

    def add(self, record: Record) -> None:
        """Count a request that is over."""
        self._requests.add(record)

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("ark:build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from self._serving()
        yield from engines.collect(self._models.models)
        for metric in self._registry.collect():
            # When a series began says nothing that a scraper does not know, and would be a third of the text.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric

    def _serving(self) -> Iterator[Metric]:
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
