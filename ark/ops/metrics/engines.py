"""What the engines count themselves: read from their status when the metrics are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ark.engines.backend import Status
from ark.engines.chat import BackendStatus
from ark.engines.embedding import EmbeddingStatus
from ark.models.registry import AnyServed


class Family(NamedTuple):
    """A metric that every model of a task has."""

    kind: type[GaugeMetricFamily] | type[CounterMetricFamily]
    name: str
    text: str
    value: Callable[[Any], float]
    """Reads it from the status of an engine."""


def collect(models: Sequence[AnyServed]) -> Iterator[Metric]:
    """The metrics of all models; of their engines where they are open."""
    ready = GaugeMetricFamily("ark:model_ready", "1 while the model answers.", labels=["model_name", "task"])
    for served in models:
        ready.add_metric([served.name, served.config.task], float(served.state == "ready"))
    yield ready
    opened = [(served, served.backend.status()) for served in models if served.backend is not None]
    yield _jobs(opened)
    for task, families in FAMILIES.items():
        statuses = [(served.name, status) for served, status in opened if served.config.task == task]
        for family in families:
            metric = family.kind(family.name, family.text, labels=["model_name"])
            for name, status in statuses:
                metric.add_metric([name], family.value(status))
            yield metric


def _jobs(opened: Sequence[tuple[AnyServed, Any]]) -> Metric:
    jobs = CounterMetricFamily(
        "ark:engine_jobs", "Jobs that an engine is rid of, by how they ended.", labels=["model_name", "outcome"]
    )
    for served, status in opened:
        for outcome in ("finished", "cancelled", "failed"):
            jobs.add_metric([served.name, outcome], getattr(status, f"jobs_{outcome}"))
    return jobs


def _kv_usage(status: BackendStatus) -> float:
    return status.kv_bytes / status.kv_budget if status.kv_budget else 0.0


def _prompt_tokens(status: BackendStatus) -> float:
    return status.prompt_tokens_cached + status.prompt_tokens_computed


def _padded_share(status: EmbeddingStatus) -> float:
    places = status.tokens + status.padded_tokens
    return status.padded_tokens / places if places else 0.0


def _running(status: Status) -> float:
    return status.running


def _waiting(status: Status) -> float:
    return status.waiting


CHAT = (
    Family(GaugeMetricFamily, "ark:num_requests_running", "Jobs that the engine computes.", _running),
    Family(GaugeMetricFamily, "ark:num_requests_waiting", "Jobs that wait for the engine.", _waiting),
    Family(
        GaugeMetricFamily,
        "ark:kv_cache_bytes",
        "Bytes of KV, of running jobs and retained states.",
        lambda s: s.kv_bytes,
    ),
    Family(GaugeMetricFamily, "ark:kv_cache_usage_perc", "Share of the KV budget in use, 0 to 1.", _kv_usage),
    Family(CounterMetricFamily, "ark:prefix_cache_queries", "Prompt tokens of all jobs.", _prompt_tokens),
    Family(
        CounterMetricFamily,
        "ark:prefix_cache_hits",
        "Of them, tokens not computed again.",
        lambda s: s.prompt_tokens_cached,
    ),
    Family(CounterMetricFamily, "ark:prompt_tokens", "Prompt tokens of all jobs, cached ones too.", _prompt_tokens),
    Family(
        CounterMetricFamily, "ark:prompt_tokens_computed", "Prompt tokens computed.", lambda s: s.prompt_tokens_computed
    ),
    Family(CounterMetricFamily, "ark:generation_tokens", "Tokens generated.", lambda s: s.tokens_generated),
    Family(CounterMetricFamily, "ark:engine_steps", "Passes through the model.", lambda s: s.steps),
)
"""Read from `BackendStatus`."""

EMBEDDING = (
    Family(GaugeMetricFamily, "ark:embeddings_running", "Jobs of which a part is computed.", _running),
    Family(GaugeMetricFamily, "ark:embeddings_waiting", "Jobs that wait for the engine.", _waiting),
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

TRANSCRIPTION = (
    Family(GaugeMetricFamily, "ark:transcriptions_running", "Recordings that are being transcribed.", _running),
    Family(GaugeMetricFamily, "ark:transcriptions_waiting", "Recordings that wait for the engine.", _waiting),
    Family(CounterMetricFamily, "ark:audio_seconds", "Seconds of sound transcribed.", lambda s: s.audio_seconds),
    Family(CounterMetricFamily, "ark:audio_segments", "Segments recognised.", lambda s: s.segments),
)
"""Read from the status of a speech model."""

FAMILIES: Mapping[str, Sequence[Family]] = {
    "chat": CHAT,
    "embedding": EMBEDDING,
    "transcription": TRANSCRIPTION,
}
"""Task to what its engines tell."""
