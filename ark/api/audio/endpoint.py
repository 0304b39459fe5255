"""POST /audio/transcriptions and /audio/translations."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ark.api.audio import parameters
from ark.api.audio.render import TranscriptionResult, events, reply
from ark.api.audio.schema import TranscriptionRequest, TranslationRequest
from ark.api.error_body import encode_error
from ark.api.request import Request, ignored_header
from ark.concurrency import run_in_thread_if_large
from ark.engines.transcription import TranscriptionInfo, TranscriptionJob, TranscriptionSegment
from ark.errors import missing_parameter
from ark.http.response import EventStream, Response
from ark.http.sse import json_event
from ark.models.served import ServedTranscription
from ark.ops.requests import JobRecord
from ark.services import Services

_SEGMENT_BYTES = 1024
"""About what a segment takes in a reply."""


async def transcribe(request: Request, services: Services) -> Response | EventStream:
    """Transcribe a recording, in the language that is spoken in it."""
    return await _answer(request, services, TranscriptionRequest)


async def translate(request: Request, services: Services) -> Response | EventStream:
    """Translate a recording into English."""
    return await _answer(request, services, TranslationRequest)


async def _answer(request: Request, services: Services, kind: type[TranslationRequest]) -> Response | EventStream:
    form = request.form
    if form is None:
        raise RuntimeError("the route reads no form")
    body = parameters.read(form.fields, kind)
    if "file" not in form.files:
        raise missing_parameter("file")
    parameters.check(body)
    served = services.registry.find_for(ServedTranscription, body.model, request.key)
    record = request.record.begin("transcription", served.name, body, meters=services.metrics.requests.models)
    backend = await served.ready()
    headers = ignored_header(served.check(body))
    granularities = (body.timestamp_granularities or ()) if isinstance(body, TranscriptionRequest) else ()
    job = TranscriptionJob(
        request_id=request.id,
        owner=request.owner,
        audio=form.files["file"].file,
        task=parameters.task(body, backend),
        language=parameters.language(body, backend),
        prompt=body.prompt or "",
        temperature=body.temperature,
        words="word" in granularities,
        max_seconds=services.config.limits.audio_seconds,
    )
    result = TranscriptionResult()
    segments = _run(backend.transcribe(job), result, record, request)
    record.ask()
    if body.stream:
        return EventStream(
            events=events(segments, result),
            headers=lambda: headers,
            error_event=lambda error: json_event(encode_error(error)),
        )
    async with aclosing(segments):
        async for _ in segments:
            pass
    response_format = body.response_format or "json"
    return await run_in_thread_if_large(
        _SEGMENT_BYTES * len(result.segments),
        lambda: reply(result, response_format, task=job.task, granularities=granularities, headers=headers),
    )


async def _run(
    found: AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None],
    result: TranscriptionResult,
    record: JobRecord,
    request: Request,
) -> AsyncGenerator[TranscriptionSegment, None]:
    """The segments, each kept in `result` too; at the end the record is complete."""
    try:
        async with aclosing(found):
            async for item in found:
                if isinstance(item, TranscriptionSegment):
                    result.segments.append(item)
                    yield item
                else:
                    result.info = item
        record.finish(prompt_tokens=0)
    finally:
        record.completion_tokens = result.tokens
        # Speech is not read as tokens: what a reply costs of a key's rate is what was written.
        request.spend(result.tokens)
        record.logged = {
            "audio_seconds": result.seconds,
            "segments": len(result.segments),
            "completion_tokens": result.tokens,
        }
