"""POST /audio/transcriptions and /audio/translations."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

from ark.api.audio import parameters, render
from ark.api.audio.schema import TranscriptionRequest, TranslationRequest
from ark.api.error_body import encode_error
from ark.api.request import Request, ignored_header
from ark.concurrency import run_in_thread_if_large
from ark.engines.transcription import TranscriptionJob
from ark.errors import APIError, BadRequest
from ark.http.response import EventStream, Response
from ark.http.sse import json_event
from ark.ops.requests import JobRecord
from ark.services import Services

log = logging.getLogger("ark.audio")

_SEGMENT_BYTES = 1024
"""About what a segment takes in a reply."""


async def transcribe(request: Request, services: Services) -> Response | EventStream:
    """What is said in a recording, in the language it is said in."""
    return await _answer(request, services, TranscriptionRequest, "transcribe")


async def translate(request: Request, services: Services) -> Response | EventStream:
    """What is said in a recording, in English."""
    return await _answer(request, services, TranslationRequest, "translate")


async def _answer(
    request: Request,
    services: Services,
    kind: type[TranslationRequest],
    task: Literal["transcribe", "translate"],
) -> Response | EventStream:
    form = request.form
    if form is None:
        raise RuntimeError("the route reads no form")
    body = parameters.read(form.fields, kind)
    if "file" not in form.files:
        raise BadRequest("Missing required parameter: 'file'.", param="file", code="missing_required_parameter")
    parameters.check(body)
    served = services.registry.find_transcription(body.model, request.key)
    work = request.record.begin("transcription", served.name, body, meter=services.metrics.requests.models[served.name])
    backend = await served.ready(services.config.server.load_wait)
    ignore = services.config.server.unsupported_parameters == "ignore"
    ignored = served.check(body, ignore=ignore)
    if task == "translate":
        parameters.check_translation(body, backend)
    granularities = (body.timestamp_granularities or ()) if isinstance(body, TranscriptionRequest) else ()
    job = TranscriptionJob(
        request_id=request.id,
        audio=form.files["file"].file,
        task=task,
        language=parameters.language(body, backend),
        prompt=body.prompt or "",
        temperature=body.temperature,
        words="word" in granularities,
        max_seconds=services.config.limits.audio_seconds,
    )
    heard = render.Heard()
    headers = ignored_header(ignored)
    work.ask()
    if body.stream:
        events = _noted(render.events(backend.transcribe(job), heard), heard, request, work, body)
        return EventStream(events=events, headers=lambda: headers, error_event=_error_event)
    try:
        async with aclosing(backend.transcribe(job)) as pieces:
            async for piece in pieces:
                heard.take(piece)
        work.finish(prompt_tokens=0)
    finally:
        _note(heard, request, work, body)
    chosen = body.response_format or "json"
    return await run_in_thread_if_large(
        _SEGMENT_BYTES * len(heard.segments),
        lambda: render.reply(heard, chosen, task=task, granularities=granularities, headers=headers),
    )


async def _noted(
    events: AsyncGenerator[bytes, None],
    heard: render.Heard,
    request: Request,
    work: JobRecord,
    body: TranslationRequest,
) -> AsyncGenerator[bytes, None]:
    """The same events, and a line in the log behind the last."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
        work.finish(prompt_tokens=0)
    finally:
        _note(heard, request, work, body)


def _note(heard: render.Heard, request: Request, work: JobRecord, body: TranslationRequest) -> None:
    work.completion_tokens = heard.tokens
    # Speech is not read as tokens: what a reply costs of a key's rate is what was written.
    request.spend(heard.tokens)
    fields = {
        "request_id": request.id,
        "model": body.model,
        "seconds": heard.seconds,
        "segments": len(heard.segments),
        "completion_tokens": heard.tokens,
    }
    log.info("transcription", extra={"fields": fields})


def _error_event(error: APIError) -> bytes:
    return json_event(encode_error(error))
