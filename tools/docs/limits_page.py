"""docs/limits.md: every limit with its default, from the code that keeps it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import hypercorn.config
import msgspec

from ark.cli.serve import BACKLOG
from ark.config import KeyConfig, LimitsConfig, ModelConfig, ServerConfig, SessionsConfig
from ark.engines.parameters import MAX_INPUTS
from ark.http.errors import SHOWN
from ark.http.exchange import SMALL_BODY
from ark.http.request import HEAD_BYTES
from ark_backends.bge.options import BgeOptions
from ark_backends.exllama.options import ExLlamaV2Options, ExLlamaV3Options
from ark_backends.kit.engine import MAX_FAILURES
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.whisper.options import WhisperOptions
from configuration_page import UNTOLD
from fields import default, docstrings

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"

INTRODUCTION = """\
# Limits and their defaults

<!-- Made by `make pages` from tools/docs/limits_page.py -->

To find out how much ARK accepts, and what happens beyond that, use this page. It has the limits of each table of
`ark.toml`. [Configuration](configuration.md) has all other fields.
"""

TABLES: tuple[tuple[str, type, Collection[str] | None], ...] = (
    ("`[limits]`", LimitsConfig, None),
    ("`[server]`", ServerConfig, {"keep_alive", "load_wait", "drain_seconds"}),
    (
        "`[sessions]`",
        SessionsConfig,
        {"idle_timeout", "max_age", "max_sessions", "max_bytes", "max_conversations", "busy_wait"},
    ),
    ("`[[keys]]`", KeyConfig, {"concurrent_requests", "requests_per_minute", "tokens_per_minute"}),
    ("`[[models]]`", ModelConfig, {"context_length", "max_queue"}),
    ("`[models.engine]` of torch_chat", TorchChatOptions, {"prefill_chunk", "max_running", "kv_bytes"}),
    ("`[models.engine]` of exllamav2", ExLlamaV2Options, {"cache_tokens", "prefill_chunk", "max_running", "reserve"}),
    ("`[models.engine]` of exllamav3", ExLlamaV3Options, {"cache_tokens", "prefill_chunk", "max_running", "reserve"}),
    (
        "`[models.engine]` of bge",
        BgeOptions,
        {"batch_tokens", "batch_seconds", "colbert_bytes", "max_waiting_inputs"},
    ),
    ("`[models.engine]` of whisper", WhisperOptions, {"workers", "max_running", "batch", "max_new_tokens"}),
)
"""Each table with its fields that are limits; None selects all fields."""

SERVER = hypercorn.config.Config()

FIXED = f"""\
## What is not configured

| what | how much |
|---|---|
| Head of a request | {HEAD_BYTES >> 10} KiB; more is 431 |
| Connections that wait to be accepted | {BACKLOG} under `ark serve` |
| Requests on one connection | {SERVER.keep_alive_max_requests}, by hypercorn; then it is closed |
| Body of a route that reads none | {SMALL_BODY >> 10} KiB |
| Inputs of one request for embeddings, documents of one to rerank | {MAX_INPUTS} |
| Part of a client's text that an error message repeats | {SHOWN} characters |
| Failed steps in a row before an engine gives up | {MAX_FAILURES} |
"""


def page() -> str:
    """The current text of the page."""
    sections = [f"## {title}\n\n" + "\n".join(rows(kind, limits)) + "\n" for title, kind, limits in TABLES]
    return "\n".join([INTRODUCTION, *sections, FIXED])


def rows(kind: type, limits: Collection[str] | None = None) -> list[str]:
    told = docstrings(kind)
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if limits is None or field.name in limits:
            text = told[field.name][0] if field.name in told else UNTOLD[field.name]
            lines.append(f"| `{field.name}` | {default(field)} | {text} |")
    return lines
