"""docs/parameters.md: routes, parameters and headers of the API, from the code that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ark.api.audio.schema import TranscriptionRequest, TranslationRequest
from ark.api.models.schema import ModelDetails
from ark.api.routes import PAGE as PAGE_ROUTE
from ark.api.routes import ROUTES
from ark.openapi.docstrings import text
from ark.openapi.operations import HEADERS
from ark.openapi.operations import PARAMETERS as INPUTS
from fields import docstrings, values
from request_parameters import chat_rows, embedding_rows

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"

INTRODUCTION = """\
# Routes and parameters

<!-- Made by `make pages` from tools/docs/parameters_page.py -->

Each route stands below `/v1` and without it, and below whatever path ARK is mounted at. `GET /openapi.json` says all of
this for programs.
"""

CAPABILITIES = """\
## What a model can do

Models differ, and each says in `GET /models` what it does, in the object `ark` beside OpenAI's fields:
"""

HONOURED = """\
A parameter that would change the answer and that is not in `parameters` is 400 `unsupported_parameter`, with the
parameter's name in `param`. With `[server] unsupported_parameters = "ignore"` it is dropped, and named in the reply's
header `x-ark-ignored`. A value that changes nothing (a penalty of 0, `n` of 1, `response_format` of text) is always
accepted, and so are `metadata`, `store`, `service_tier` and every field that ARK does not know. A value out of range is
400 with `param`, whatever the model.

`capabilities = "document"` in a model's table narrows it to the parameters that ARK's founding document has, the last
column of the next table.
"""

CHAT = """\
## `POST /chat/completions`

ARK's engines are `torch_chat`, `exllamav2` and `exllamav3`, which honour the same: of tools and thinking what the
model's chat template knows. A dash: not honoured.
"""

CHAT_MORE = """\
`ark_simplified` with `stream` sends each token's text as an event and nothing else, then the usage object and `[DONE]`.
`ark_stateful` is a session's UUID, `true` for the cookie's session, or `false` for none: see [Sessions](sessions.md).
"""

EMBEDDINGS = """\
## `POST /embeddings`

More on the page [Embeddings](embeddings.md).
"""

AUDIO = """\
## `POST /audio/transcriptions`, `POST /audio/translations`

A form, as OpenAI's clients send it. More on the page [Transcription](transcription.md).
"""

AUDIO_MEANING = {
    "file": "the recording, in any format that PyAV decodes",
    "model": "a served name or an alias",
    "prompt": "text that is taken for what was said before",
    "temperature": "0 takes the most likely words; without it 0, and more where a piece comes out badly",
    "response_format": "text, subtitles, or segments with times; `json` when it is not sent",
    "stream": "events, a segment at a time; with `json` and `text`",
    "language": "a code of ISO 639-1 or an English name; found out when it is not sent",
    "timestamp_granularities": "segments, words or both, with `verbose_json`; sent as `timestamp_granularities[]`",
    "include": "sent as `include[]`; `logprobs` is refused, see below",
    "chunking_strategy": "`auto` is accepted, others are refused",
}
"""A line for each field of the form."""

DETAILS = {
    "task": "`chat`, `embedding` or `transcription`.",
    "backend": "The engine that runs it.",
    "state": "`loading`, `ready` or `failed`.",
    "aliases": "Other names for it.",
}
"""Fields of a model that have no text in the code."""

HEADERS_OF_REQUESTS = """\
## Headers

Beside those of HTTP. In requests:
"""


def page() -> str:
    """The page of today."""
    parts = [
        INTRODUCTION,
        table(["route", "what it gives", "needs a key"], routes()),
        CAPABILITIES,
        table(["field", "what it is"], details()),
        HONOURED,
        CHAT,
        "\n".join(chat_rows()) + "\n",
        CHAT_MORE,
        EMBEDDINGS,
        "\n".join(embedding_rows()) + "\n",
        AUDIO,
        table(["field", "values", "what it does", "for"], audio()),
        HEADERS_OF_REQUESTS,
        table(["header", "what it is"], [("`authorization`", "`Bearer KEY`, where the server has keys."), *sent()]),
        "In replies:\n",
        table(["header", "what it is"], [(f"`{name}`", header["description"]) for name, header in HEADERS.items()]),
    ]
    return "\n".join(parts)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|") + "\n"
    )


def routes() -> Iterator[Sequence[str]]:
    for path, methods in ROUTES.items():
        for method, route in methods.items():
            yield f"`{method} {path}`", first(text(route.endpoint)), "" if route.open else "yes"
    yield "`GET /`", f"{first(text(PAGE_ROUTE.endpoint))} Only at the root itself.", ""


def details() -> Iterator[Sequence[str]]:
    told = docstrings(ModelDetails)
    for field in msgspec.structs.fields(ModelDetails):
        yield f"`{field.name}`", " ".join(told.get(field.name) or [DETAILS[field.name]]).replace("None", "`null`")


def audio() -> Iterator[Sequence[str]]:
    kinds = {
        "file": "a file",
        **{field.name: values(field.type) for field in msgspec.structs.fields(TranscriptionRequest)},
    }
    both = {"file", *(field.name for field in msgspec.structs.fields(TranslationRequest))}
    for name, meaning in AUDIO_MEANING.items():
        yield f"`{name}`", kinds[name], meaning, "both" if name in both else "transcriptions"


def sent() -> Iterator[Sequence[str]]:
    for one in INPUTS.values():
        if one["in"] in ("header", "cookie"):
            yield f"`{one['name']}`" + (", a cookie" if one["in"] == "cookie" else ""), one["description"]


def first(said: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(said.partition("\n\n")[0].split())
