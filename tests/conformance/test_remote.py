"""The shipped calls of chat against ARK in front of llama.cpp's server, with the model that reasons and calls tools."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_models import TINY_CHAT
from llama_server import llama_server
from running import serve

from ark.app import create_app
from ark.config import Config, KeyConfig, ModelConfig, SamplingConfig
from ark_conformance.clients import Server
from ark_conformance.plugin import ConformanceCall
from ark_conformance.target import Target

CALLS = [
    *("bad-values", "chat", "completions", "disconnects", "errors", "formats", "responses", "sampling"),
    *("sessions-cookie", "sessions-named", "simplified", "skills", "streaming", "tools"),
]
"""Those of chat, for a server without limits."""

OTHERWISE = [
    "completions/sixteen-tokens",
    "completions/logprobs",
    "sampling/an-endless-bias",
    "errors/another-task",
    "errors/a-wrong-method",
]
"""They also use what llama.cpp's server does not have, or another model."""

OWN, OTHER = "sk-own", "sk-other"

UNABLE = "does not honour"


@pytest.fixture(scope="module")
def remote_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    path = str(Path(__file__).parents[2] / "conformance" / "peers")
    sys.path.append(path)
    try:
        from llama_cpp import convert
    finally:
        sys.path.remove(path)
    weights = tmp_path_factory.mktemp("remote") / "tiny-chat.gguf"
    convert(weights)
    with llama_server(weights, slots=4, slot_tokens=4096) as engine:
        model = ModelConfig(
            name="tiny-chat",
            path=str(TINY_CHAT),
            backend="remote",
            # llama.cpp has not the model's own way to cut a text into words.
            engine={"url": engine.url, "tokenizer_check": "ids"},
            sampling=SamplingConfig(temperature=0.0),
        )
        keys = tuple(KeyConfig(name=key, sha256=hashlib.sha256(key.encode()).hexdigest()) for key in (OWN, OTHER))
        with serve(create_app(Config(models=(model,), keys=keys))) as server:
            yield Target.ask(Server(base_url=f"{server.url}/v1", api_key=OWN, other_key=OTHER))


@pytest.mark.conformance(profile="ark", only=CALLS, exclude=OTHERWISE)
def test_ark_in_front_of_llama_cpp(conformance_call: ConformanceCall, remote_target: Target) -> None:
    """Only what needs a parameter that llama.cpp's server does not have may be left out."""
    reason = ""
    try:
        conformance_call(remote_target)
    except pytest.skip.Exception as skipped:
        reason = str(skipped)
    assert not reason or re.search(UNABLE, reason), reason
