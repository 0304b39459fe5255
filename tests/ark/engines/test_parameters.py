"""The table of parameters: what the schemas, the documentation and the backends take from it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ark.api.audio.schema import TranscriptionRequest, TranslationRequest
from ark.api.chat.schema import ChatRequest
from ark.api.completions.schema import CompletionRequest
from ark.api.embeddings.schema import EmbeddingRequest
from ark.engines.parameters import CHAT, COMPLETIONS, EMBEDDINGS, TRANSCRIPTIONS, Table, beyond_document, honoured

SCHEMAS = [
    (CHAT, ChatRequest),
    (COMPLETIONS, CompletionRequest),
    (EMBEDDINGS, EmbeddingRequest),
    (TRANSCRIPTIONS, TranscriptionRequest),
]


@pytest.mark.parametrize(("table", "schema"), SCHEMAS)
def test_a_schema_has_the_tables_fields_with_their_types(table: Table, schema: type[msgspec.Struct]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(schema)}
    assert {*fields} == {*table} - {"file"}
    for name, field in fields.items():
        if table[name].type is not None:
            required = field.default is msgspec.NODEFAULT
            assert field.type == (table[name].type if required else table[name].type | None), name


def test_a_translation_has_the_first_parameters_of_a_transcription() -> None:
    fields = [field.name for field in msgspec.structs.fields(TranslationRequest)]
    assert ["file", *fields] == [*TRANSCRIPTIONS][: len(fields) + 1]


def test_what_the_document_has_is_not_beyond_it() -> None:
    assert beyond_document(CHAT) < honoured(CHAT)
    assert honoured(CHAT) - beyond_document(CHAT) == {
        *("stream", "stream_options", "max_tokens", "max_completion_tokens", "temperature")
    }


@pytest.mark.parametrize(
    ("name", "value", "neutral"),
    [
        ("temperature", 1.0, True),
        ("temperature", 0, False),
        ("seed", 0, False),
        ("top_k", -1, True),
        ("stop", [], True),
        ("stop", ["a"], False),
        ("logit_bias", {}, True),
        ("tool_choice", "auto", True),
        ("tool_choice", "required", False),
        ("parallel_tool_calls", False, True),
        ("max_tokens", 5, True),
    ],
)
def test_values_that_change_nothing(name: str, value: Any, neutral: bool) -> None:
    assert CHAT[name].is_neutral(value) is neutral
