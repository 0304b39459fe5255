"""Traces for OpenTelemetry: one span for each request, sent over OTLP where the environment names a collector.

The standard variables set everything (``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_SERVICE_NAME``, ``OTEL_TRACES_SAMPLER``
and the others of the SDK), and nothing is imported before one of them asks for traces. A span is made when its request
is over, and leaves in a thread of the SDK's, which drops what it cannot send.

Attributes have the names of OpenTelemetry's conventions for HTTP servers and for generative AI
(github.com/open-telemetry/semantic-conventions-genai); ARK's own begin with ``ark.``. Nothing that a client wrote is
among them but the name of a model that is served, numbers, and the request's id.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from ark import __version__
from ark.ops.requests import METHODS, JobRecord, RequestRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("ark.tracing")

UNTRACED = frozenset({"/health", "/ready", "/metrics"})
"""Routes that are asked every few seconds by what watches the server."""

CLOSE_SECONDS = 5.0
"""How long the last spans may take to leave when the server stops."""

GENERATING = ("chat", "text_completion")
"""Operations whose result comes token by token."""

_NUMBERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "dimensions": "gen_ai.embeddings.dimension.count",
}
"""Numeric fields of a request to attributes."""


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for traces that ARK can send. Logs why not if it asks for others."""

    def value(name: str) -> str:
        return environ.get(name, "").strip()

    exporter = value("OTEL_TRACES_EXPORTER").lower()
    endpoint = value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or value("OTEL_EXPORTER_OTLP_ENDPOINT")
    if value("OTEL_SDK_DISABLED").lower() == "true" or exporter == "none" or not (endpoint or exporter):
        return False
    protocol = value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or value("OTEL_EXPORTER_OTLP_PROTOCOL")
    for name, found, known in (
        ("OTEL_TRACES_EXPORTER", exporter, "otlp"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol, "http/protobuf"),
    ):
        if found not in ("", known):
            log.warning("no traces are sent: %s is %s, and ARK knows %s", name, found, known)
            return False
    return True


def open_tracer(environ: Mapping[str, str]) -> Tracer | None:
    """The tracer; None where no traces are asked for or the extra ``otel`` is not installed. Imports OpenTelemetry,
    which takes a moment."""
    if not wanted(environ):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        log.warning("no traces are sent: %s; pip install 'ark-server[otel]' brings what they need", error)
        return None
    ours, theirs = logging.getLogger("ark"), logging.getLogger("opentelemetry")
    if ours.handlers and not theirs.handlers and not logging.getLogger().handlers:
        # What the SDK says of a collector goes where ARK's log goes, unless the application sees to it.
        theirs.handlers = list(ours.handlers)
        theirs.propagate = False
    try:
        own = {"service.name": "ark", "service.version": __version__}
        resource = Resource.create({**own, **OTELResourceDetector().detect().attributes})
        # Not the process's own provider: an application around ARK may have one.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except Exception:
        log.exception("no traces are sent: OpenTelemetry does not take what its variables say")
        return None
    return Tracer(provider)


class Tracer:
    """Makes the spans of one running server."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("ark", __version__)
        self._failed = False

    def add(self, record: RequestRecord) -> None:
        """Trace a request that is over. An error harms no request, and is logged once."""
        if record.route in UNTRACED:
            return
        try:
            self._add(record)
        except Exception:
            if not self._failed:
                self._failed = True
                log.exception("a trace could not be made; further ones that fail are passed over")

    async def close(self) -> None:
        """Send what waits, for at most `CLOSE_SECONDS`."""
        # A thread that nobody has to wait for: one that talks to a dead collector would hold the process.
        thread = threading.Thread(target=self._provider.shutdown, name="ark-traces-close", daemon=True)
        thread.start()
        await anyio.to_thread.run_sync(thread.join, CLOSE_SECONDS)

    def _add(self, record: RequestRecord) -> None:
        from opentelemetry import trace  # noqa: PLC0415

        span = self._tracer.start_span(
            _name(record),
            context=_parent(record),
            kind=trace.SpanKind.SERVER,
            attributes=_attributes(record),
            start_time=_nanoseconds(record, record.begun),
        )
        record.trace_id = trace.format_trace_id(span.get_span_context().trace_id)
        if span.is_recording():
            if record.failed:
                span.set_status(trace.Status(trace.StatusCode.ERROR))
            if record.job is not None:
                context = trace.set_span_in_context(span)
                for name, begun, ended in _stages(record.job):
                    if begun:
                        stage = self._tracer.start_span(name, context, start_time=_nanoseconds(record, begun))
                        # A stage that was broken off ends with the request.
                        stage.end(_nanoseconds(record, ended or record.ended))
        span.end(_nanoseconds(record, record.ended))


def _stages(job: JobRecord) -> list[tuple[str, float, float]]:
    """What the engine did: names, and when each began and ended."""
    if job.operation not in GENERATING:
        return [("engine", job.asked, job.last)]
    return [
        ("queue", job.asked, job.admitted),
        ("prefill", job.admitted, job.first),
        ("decode", job.first, job.last),
    ]


def _parent(record: RequestRecord) -> Context:
    """What the request is a part of: a span of the application around ARK, or that of the client's ``traceparent``."""
    from opentelemetry import context, propagate, trace  # noqa: PLC0415

    if trace.get_current_span().get_span_context().is_valid:
        return context.get_current()
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in record.headers.items()}
    return propagate.extract(headers)


def _name(record: RequestRecord) -> str:
    method = record.method if record.method in METHODS else "HTTP"
    return method if record.route is None else f"{method} {record.route}"


def _nanoseconds(record: RequestRecord, moment: float) -> int:
    """Unix time of a moment of the request."""
    return record.wall + int((moment - record.begun) * 1e9)


def _attributes(record: RequestRecord) -> dict[str, Any]:
    """Those that are known; OpenTelemetry has no empty ones."""
    found: dict[str, Any] = {
        "http.request.method": record.method if record.method in METHODS else "_OTHER",
        "http.route": record.route,
        "http.response.status_code": record.status or None,
        "url.scheme": record.scheme,
        "error.type": record.reason,
        "ark.request_id": record.id,
        "ark.client_disconnected": record.disconnected or None,
    }
    if (job := record.job) is not None:
        body: Any = job.body
        encoding = getattr(body, "encoding_format", None)
        found |= {
            "gen_ai.operation.name": job.operation,
            "gen_ai.provider.name": "ark",
            "gen_ai.request.model": body.model,
            "gen_ai.response.model": job.model,
            **{attribute: getattr(body, field, None) for field, attribute in _NUMBERS.items()},
            "gen_ai.request.stream": getattr(body, "stream", None) or None,
            "gen_ai.conversation.id": job.session,
            "gen_ai.request.encoding_formats": None if encoding is None else [encoding],
            "gen_ai.usage.input_tokens": job.prompt_tokens or None,
        }
        if job.operation in GENERATING:
            found |= _generation(job, body)
    return {name: value for name, value in found.items() if value is not None}


def _generation(job: JobRecord, body: Any) -> dict[str, Any]:
    form = getattr(body, "response_format", None)
    found: dict[str, Any] = {
        "gen_ai.request.max_tokens": getattr(body, "max_completion_tokens", None) or body.max_tokens,
        "gen_ai.request.choice.count": body.n if body.n != 1 else None,
        "gen_ai.output.type": None if form is None else "text" if form.type == "text" else "json",
        "gen_ai.response.id": job.response_id or None,
        "gen_ai.response.finish_reasons": [reason for reason in job.finish_reasons if reason is not None] or None,
    }
    if job.admitted:
        found["gen_ai.usage.cache_read.input_tokens"] = job.cached_tokens
        found["gen_ai.usage.output_tokens"] = job.completion_tokens
        found["gen_ai.usage.reasoning.output_tokens"] = job.reasoning_tokens or None
    if job.first and body.stream:
        found["gen_ai.response.time_to_first_chunk"] = job.time_to_first_token
    return found
