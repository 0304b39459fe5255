"""Schemathesis reads the OpenAPI document and holds a real server to it, with requests that fit it and that do not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from asgi_client import ECHO, make_config
from hypothesis import HealthCheck, settings
from running import Running, serve
from schemathesis.specs.openapi import checks
from sse import read_events
from written_speech import recording

from ark.app import create_app
from tools.openapi.document import document as described

MODELS = [
    ECHO,
    {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"},
    {"name": "reranker", "task": "rerank", "backend": "word_reranker:WordReranker"},
    {"name": "speech", "task": "transcription", "backend": "written_speech:WrittenSpeech"},
]
SERVED = {
    "/chat/completions": "echo",
    "/embeddings": "words",
    "/rerank": "reranker",
    "/score": "reranker",
    "/audio/transcriptions": "speech",
    "/audio/translations": "speech",
}
# A request that does not fit is never answered with 200; one with a field that is not listed does fit. One that fits
# may be a 400 all the same, for a schema cannot say everything, and to a schema 1.0 is an integer.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]

document = schemathesis.openapi.from_dict(described() | {"servers": [{"url": "/v1"}]})
# The same requests in every run: each field at its limits and beyond, every other method, and some at random.
document.config.generation.update(deterministic=True, max_examples=15, no_shrink=True)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    options = {"log_level": "error", "unsupported_parameters": "ignore"}
    with serve(create_app(make_config(models=MODELS, server=options))) as running:
        yield running


@pytest.fixture(scope="module")
def answered() -> Counter[str]:
    """How many requests each path answered with 200."""
    return Counter()


@document.parametrize()
@settings(suppress_health_check=[*HealthCheck])
def test_every_reply_is_as_the_document_says(case: schemathesis.Case, server: Running, answered: Counter[str]) -> None:
    positive = case.meta is not None and case.meta.generation.mode.is_positive
    if positive and isinstance(case.body, dict) and case.path in SERVED:
        make_sense(case.body, SERVED[case.path])
    reply = case.call(f"{server.url}/v1")
    if reply.headers["content-type"][0].startswith("text/event-stream"):
        # OpenAPI 3.1 describes the body as a text, schemathesis reads that as being said of each event.
        case.validate_response(reply, checks=CHECKS, excluded_checks=[checks.response_schema_conformance])
        check_events(case.operation.path, reply.text)
    else:
        case.validate_response(reply, checks=CHECKS)
    answered[case.operation.path] += reply.status_code == 200


def test_not_every_reply_was_an_error(answered: Counter[str]) -> None:
    if not answered:
        pytest.skip("asks what the test before it saw")
    assert all(number >= 10 for path, number in answered.items() if path in SERVED), answered


def check_events(path: str, body: str) -> None:
    content = document.raw_schema["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    schema = content["schema"]["contentSchema"] | {"components": document.raw_schema["components"]}
    *events, last = read_events(body)
    for event in events:
        jsonschema.Draft202012Validator(schema).validate(json.loads(event.data))
    assert events
    assert last.data == "[DONE]"


def make_sense(body: dict[str, Any], model: str) -> None:
    """Name a model that is served, send it sound, and give messages what they need whatever the role; or nearly every
    reply is a 400."""
    body["model"] = model
    if "file" in body:
        body["file"] = recording("0.0 1.0 good day")
        # A form has no null.
        for name in [name for name, value in body.items() if value is None]:
            del body[name]
    if "text_1" in body:
        # One query goes with any number of texts.
        body["text_1"] = "text"
    for message in body.get("messages", ()):
        message["content"] = message.get("content") or "text"
        if message["role"] in ("tool", "function"):
            message["role"] = "user"
