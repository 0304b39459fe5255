"""A speech model that runs in engines elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ark.engines.backend import Capabilities
from ark.engines.parameters import TRANSCRIPTIONS, honoured
from ark.engines.transcription import (
    TranscriptionBackend,
    TranscriptionInfo,
    TranscriptionJob,
    TranscriptionSegment,
    TranscriptionStatus,
    Word,
)
from ark.errors import BadRequest
from ark_backends.remote.client import EngineDown
from ark_backends.remote.passing import PassingBackend

PATHS = {"transcribe": "/v1/audio/transcriptions", "translate": "/v1/audio/translations"}

_CODES = """
af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is
it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si
sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh
"""
WHISPERS = tuple(_CODES.split())
"""The languages of its multilingual models."""


class _Segment(msgspec.Struct):
    start: float
    end: float
    text: str
    id: int = 0
    seek: int = 0
    tokens: list[int] = []
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0


class _Reply(msgspec.Struct):
    text: str
    language: str = ""
    duration: float | str = 0.0
    segments: list[_Segment] | None = None
    words: list[Word] | None = None


_decode = msgspec.json.Decoder(_Reply, strict=False).decode


class RemoteTranscription(PassingBackend):
    """`ark.engines.transcription.TranscriptionBackend` over the engines of a list of URLs.

    The whole answer comes at once: a stream of ARK's then has it in one piece after another.
    """

    capabilities = Capabilities(parameters=honoured(TRANSCRIPTIONS) - {"include"})

    @property
    def languages(self) -> Sequence[str]:
        return self._options.languages or WHISPERS

    def status(self) -> TranscriptionStatus:
        return TranscriptionStatus(**self._counted())

    async def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        fields: dict[str, Any] = {"model": self._at_engine, "response_format": "verbose_json", "prompt": job.prompt}
        fields["temperature"] = job.temperature
        if job.task == "transcribe":
            fields["language"] = job.language
            fields["timestamp_granularities[]"] = ["segment", "word"] if job.words else None
        fields = {name: str(value) if name == "temperature" else value for name, value in fields.items() if value}

        async def send(url: str) -> _Reply:
            job.audio.seek(0)
            data = await self._clients.post_form(url + PATHS[job.task], fields, job.audio)
            try:
                return _decode(data)
            except msgspec.MsgspecError as error:
                raise EngineDown(f"it sends a transcription that cannot be read: {error}") from error

        reply = await self._passed(job.request_id, send)
        duration = float(reply.duration)
        if job.max_seconds is not None and duration > job.max_seconds:
            raise BadRequest(f"The recording is longer than {job.max_seconds:g} s.", param="file")
        self._counters.update(segments=len(reply.segments or ()))
        self._counters["audio_seconds"] += duration  # type: ignore[assignment]
        yield TranscriptionInfo(language=reply.language, duration=duration)
        for segment in _segments(reply, duration):
            yield segment


def _segments(reply: _Reply, duration: float) -> list[TranscriptionSegment]:
    """Those of a reply, with their words; one with the whole text where it has none."""
    found = reply.segments
    if found is None:
        found = [_Segment(start=0.0, end=duration, text=reply.text)] if reply.text else []
    words = [*(reply.words or ())]
    segments = []
    for number, segment in enumerate(found):
        last = number == len(found) - 1
        own = [word for word in words if last or word.start < segment.end]
        words = words[len(own) :]
        segments.append(TranscriptionSegment(**msgspec.structs.asdict(segment) | {"id": number}, words=own))
    return segments


if TYPE_CHECKING:
    _conforms: type[TranscriptionBackend] = RemoteTranscription
