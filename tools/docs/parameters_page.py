"""docs/parameters.md: routes, parameters and headers of the API, from the code that reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from ark.api.audio.schema import TranscriptionRequest, TranslationRequest
from ark.api.chat.schema import ChatRequest
from ark.api.completions.schema import CompletionRequest
from ark.api.embeddings.schema import EmbeddingRequest
from ark.api.models.endpoint import ModelDetails
from ark.api.ops import endpoint as ops
from ark.api.rerank.schema import RerankRequest, ScoreRequest
from ark.api.responses.schema import ResponseRequest
from ark.api.routes import PAGE as PAGE_ROUTE
from ark.api.routes import ROUTES
from ark.engines import parameters
from ark_backends.kit.chat import PARAMETERS
from fields import docstrings, values
from tools.openapi.docstrings import text
from tools.openapi.parameters import HEADERS
from tools.openapi.parameters import PARAMETERS as INPUTS

PAGE = Path(__file__).parents[2] / "docs" / "parameters.md"

INTRODUCTION = """\
# Routes and parameters

<!-- Made by `make pages` from tools/docs/parameters_page.py -->

To look up a route, a parameter or a header, use this page. Each route exists with the prefix `/v1` and without it,
below the path at which ARK is mounted. `GET /openapi.json` is the same for programs.
"""

CAPABILITIES = """\
## What a model can do

Models differ. `GET /models` says what each can do, in the object `ark` beside OpenAI's fields:
"""

HONOURED = """\
A parameter that would change the answer and that is not in `parameters` is a 400 `unsupported_parameter`, with its name
in `param`. With `[server] unsupported_parameters = "ignore"` ARK drops it, and names it in the header `x-ark-ignored`.
A value that changes nothing (a penalty of 0, `n` of 1, `response_format` of text) is always accepted, and so are
`metadata`, `store`, `service_tier` and every unknown field. A value out of range is a 400 with `param`, whatever the
model.

`capabilities = "document"` in a model's table narrows it to the parameters of ARK's original specification, which the
last column of the next table shows.
"""

CHAT = """\
## `POST /chat/completions`

ARK's engines `torch_chat`, `exllamav2` and `exllamav3` honour the same parameters; those about tools and thinking if
the model's chat template supports them. A dash means: not honoured. [Chat](chat.md) says more.
"""

CHAT_MORE = """\
With `stream`, `ark_simplified` sends each token's text as an event and nothing else, then the usage object and
`[DONE]`. `ark_stateful` is a session's UUID, `true` for the cookie's session, or `false` for none:
[Sessions](sessions.md). What `store` keeps is for the routes of stored completions: [Chat](chat.md).
"""

COMPLETIONS = """\
## `POST /completions`

Bare text, without a chat template and without a session. [Chat](chat.md#bare-text) says more.
"""

RESPONSES = """\
## `POST /responses`

A model honours here what it honours in chat completions. [Responses](responses.md) says more. `metadata`, `include` and
the like are OpenAI's; unknown fields are accepted.
"""

EMBEDDINGS = """\
## `POST /embeddings`

[Embeddings](embeddings.md) says more.
"""

RERANK = """\
## `POST /rerank`, `POST /score`

[Rerank](rerank.md) says more. Fields of `/rerank`:
"""

AUDIO = """\
## `POST /audio/transcriptions`, `POST /audio/translations`

A form, as OpenAI's clients send it. [Transcription](transcription.md) says more.
"""

DETAILS = {
    "task": "`chat`, `embedding`, `rerank` or `transcription`.",
    "backend": "The engine that runs it.",
    "state": "`loading`, `ready` or `failed`.",
    "aliases": "Other names for it.",
}
"""Fields of a model without a docstring."""

HEADERS_OF_REQUESTS = """\
## Headers

In requests, in addition to those of HTTP:
"""


def page() -> str:
    """The current text of the page."""
    parts = [
        INTRODUCTION,
        table(["route", "what it gives", "needs a key"], routes()),
        CAPABILITIES,
        table(["field", "what it is"], details()),
        HONOURED,
        CHAT,
        table(["parameter", "values", "what it does", "ARK's engines", "specification"], chat()),
        CHAT_MORE,
        COMPLETIONS,
        table(["parameter", "values", "what it does"], rows(CompletionRequest, parameters.COMPLETIONS)),
        RESPONSES,
        table(["parameter", "values", "what it does"], responses()),
        EMBEDDINGS,
        table(["parameter", "values", "what it does", "models"], embeddings()),
        RERANK,
        table(["parameter", "values", "what it does"], rows(RerankRequest, parameters.RERANK)),
        "Fields of `/score`:\n",
        table(["parameter", "values", "what it does"], rows(ScoreRequest, parameters.SCORE)),
        AUDIO,
        table(["field", "values", "what it does", "for"], audio()),
        HEADERS_OF_REQUESTS,
        table(["header", "what it is"], [("`authorization`", "`Bearer KEY`, if the server has keys."), *sent()]),
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
    yield "`GET /v1`", first(text(ops.index)), ""


def details() -> Iterator[Sequence[str]]:
    told = docstrings(ModelDetails)
    for field in msgspec.structs.fields(ModelDetails):
        yield f"`{field.name}`", " ".join(told.get(field.name) or [DETAILS[field.name]]).replace("None", "`null`")


def chat() -> Iterator[Sequence[str]]:
    kinds = {field.name: field.type for field in msgspec.structs.fields(ChatRequest)}
    for row in parameters.CHAT.values():
        engine = "yes" if row.needs is None or row.name in PARAMETERS else "-"
        document = "-" if row.name in parameters.beyond_document(parameters.CHAT) else engine
        yield f"`{row.name}`", values(kinds[row.name]), row.meaning, engine, document


def rows(body: type[msgspec.Struct], described: parameters.Table) -> Iterator[Sequence[str]]:
    kinds = {field.name: field.type for field in msgspec.structs.fields(body)}
    for row in described.values():
        yield f"`{row.name}`", values(kinds[row.name]), row.meaning


def responses() -> Iterator[Sequence[str]]:
    told = docstrings(ResponseRequest)
    for field in msgspec.structs.fields(ResponseRequest):
        row = parameters.CHAT.get(field.name)
        said = " ".join(told.get(field.name) or ["" if row is None else row.meaning])
        yield f"`{field.name}`", values(field.type), said


def embeddings() -> Iterator[Sequence[str]]:
    for field in msgspec.structs.fields(EmbeddingRequest):
        row = parameters.EMBEDDINGS[field.name]
        # A value that changes something is refused by a model that cannot honour it.
        yield f"`{row.name}`", values(field.type), row.meaning, "all" if row.neutral is None else "BGE-M3"


def audio() -> Iterator[Sequence[str]]:
    kinds = {
        "file": "a file",
        **{field.name: values(field.type) for field in msgspec.structs.fields(TranscriptionRequest)},
    }
    both = {"file", *(field.name for field in msgspec.structs.fields(TranslationRequest))}
    for name, row in parameters.TRANSCRIPTIONS.items():
        yield f"`{name}`", kinds[name], row.meaning, "both" if name in both else "transcriptions"


def sent() -> Iterator[Sequence[str]]:
    for one in INPUTS.values():
        if one["in"] in ("header", "cookie"):
            yield f"`{one['name']}`" + (", a cookie" if one["in"] == "cookie" else ""), one["description"]


def first(said: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(said.partition("\n\n")[0].split())
