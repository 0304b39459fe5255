"""What a form asks of a speech model, and whether the model can do it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import msgspec

from ark.api.audio.languages import CODES, name_of
from ark.api.audio.schema import TranscriptionRequest, TranslationRequest
from ark.api.request import convert
from ark.engines.transcription import TranscriptionBackend
from ark.errors import BadRequest, invalid_value, shorten

R = TypeVar("R", bound=TranslationRequest)

LISTS = frozenset({"timestamp_granularities", "include"})


def read(fields: Mapping[str, Sequence[str]], kind: type[R]) -> R:
    """The typed form. Raises BadRequest with `param`."""
    known = {field.name for field in msgspec.structs.fields(kind)}
    found: dict[str, list[str]] = {}
    for sent, values in fields.items():
        # Clients write lists as `name[]`, and objects as `name[key]`.
        name = sent.removesuffix("[]") if sent.removesuffix("[]") in LISTS else sent.partition("[")[0]
        if name in known:
            found.setdefault(name, []).extend(value for value in values if value)
    given: dict[str, object] = {}
    for name, values in found.items():
        if name in LISTS:
            given[name] = values
        elif len(values) == 1:
            given[name] = values[0]
        elif values and name != "chunking_strategy":
            raise invalid_value(name, f"it was sent {len(values)} times.")
        elif values:
            given[name] = "object"
    if given.get("response_format") == "diarized_json":
        reason = "speakers are not told apart here; 'verbose_json' has segments with their times."
        raise invalid_value("response_format", reason)
    return convert(given, kind)


def check(body: TranslationRequest) -> None:
    """What the fields' types cannot say. Raises BadRequest."""
    form = body.response_format or "json"
    if isinstance(body, TranscriptionRequest) and body.timestamp_granularities and form != "verbose_json":
        raise invalid_value("timestamp_granularities", "they need 'response_format' to be 'verbose_json'.")
    if body.stream and form not in ("json", "text"):
        raise invalid_value("stream", f"events have the text alone, and '{form}' was asked for.")


def language(body: TranslationRequest, backend: TranscriptionBackend) -> str | None:
    """The code of the language asked for. Raises BadRequest for one that the model does not know."""
    asked = body.language if isinstance(body, TranscriptionRequest) else None
    if asked is None:
        return None
    code = CODES.get(asked.casefold(), asked.casefold())
    if code not in backend.languages:
        known = ", ".join(f"{one} ({name_of(one)})" for one in backend.languages)
        reason = f"the model '{body.model}' does not know '{shorten(asked)}'. It knows: {known}."
        raise invalid_value("language", reason, code="invalid_language")
    return code


def task(body: TranslationRequest, backend: TranscriptionBackend) -> Literal["transcribe", "translate"]:
    """Raises BadRequest for a translation by a model that knows English alone: it has not learnt to translate."""
    if isinstance(body, TranscriptionRequest):
        return "transcribe"
    if tuple(backend.languages) == ("en",):
        raise BadRequest(
            f"The model '{body.model}' knows English alone, and translates nothing.",
            param="model",
            code="model_not_supported",
        )
    return "translate"
