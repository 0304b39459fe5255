"""Writes docs/limits.md: every field of the configuration with its default, from the code that reads it.

``python scripts/limits_table.py`` brings the page up to date; a test fails when it is not.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import hypercorn.config
import msgspec

from ark.commands.serve import BACKLOG
from ark.config import KeyConfig, LimitsConfig, ModelConfig, ServerConfig
from ark.cors import CORSConfig
from ark.embeddings.inputs import MAX_INPUTS
from ark.errors import SHOWN
from ark.exchange import SMALL_BODY
from ark.sessions.config import SessionsConfig
from ark_backends.bge.options import BgeOptions
from ark_backends.torch_chat.engine import MAX_FAILURES
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.whisper.options import WhisperOptions

PAGE = Path(__file__).parent.parent / "docs" / "limits.md"

INTRODUCTION = """\
# Limits and their defaults

<!-- Made by scripts/limits_table.py -->

Everything that `ark.toml` can say, table by table. `ARK_<TABLE>__<FIELD>` in the environment overrides a field of
`[server]`, `[limits]` and `[sessions]`, as `ARK_LIMITS__BODY_BYTES=1000000`. A value that cannot be used ends the start
with the file, the field and the reason.
"""

TABLES: tuple[tuple[str, type], ...] = (
    ("[limits]", LimitsConfig),
    ("[server]", ServerConfig),
    ("[server.cors]", CORSConfig),
    ("[sessions]", SessionsConfig),
    ("[[keys]]", KeyConfig),
    ("[[models]]", ModelConfig),
    ("[models.engine] of torch_chat", TorchChatOptions),
    ("[models.engine] of bge", BgeOptions),
    ("[models.engine] of whisper", WhisperOptions),
)

UNTOLD = {
    "log_level": "From which level on the log is written.",
    "cors": "`[server.cors]`, below.",
    "requests_per_minute": "Its own `key_requests_per_minute`.",
    "tokens_per_minute": "Its own `key_tokens_per_minute`.",
    "task": "What the model does.",
    "sampling": "`[models.sampling]`: temperature, top_p and the like for requests that do not say.",
}
"""Fields that have no text in the code, or one that says it of several."""

SERVER = hypercorn.config.Config()

FIXED = f"""\
## What is not configured

| what | how much |
|---|---|
| Head of a request | {SERVER.h11_max_incomplete_size >> 10} KiB, of hypercorn; more is 431 |
| Connections that wait to be accepted | {BACKLOG} under `ark serve` |
| Requests on one connection | {SERVER.keep_alive_max_requests}, of hypercorn; then it is closed in order |
| Body of a route that reads none | {SMALL_BODY >> 10} KiB |
| Inputs of one request for embeddings | {MAX_INPUTS} |
| What a message says again of what a client sent | {SHOWN} characters |
| Steps that fail in a row before an engine gives up | {MAX_FAILURES} |
"""


def page() -> str:
    """The page of today."""
    sections = [INTRODUCTION]
    for title, kind in TABLES:
        sections.append(f"## `{title}`\n\n" + "\n".join(rows(kind)) + "\n")
    return "\n".join([*sections, FIXED])


def rows(kind: type) -> list[str]:
    told = docstrings(kind)
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        lines.append(f"| `{field.name}` | {default(field)} | {told.get(field.name) or UNTOLD[field.name]} |")
    return lines


def docstrings(kind: type) -> dict[str, str]:
    """Field to the first paragraph of the text below it, on one line and fit for a table."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)):
            continue
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            paragraph = inspect.cleandoc(text.value.value).split("\n\n")[0]
            found[field.target.id] = " ".join(paragraph.split()).replace("``", "`").replace("|", "\\|")
    return found


def default(field: msgspec.structs.FieldInfo) -> str:
    """A default as ``ark.toml`` would write it."""
    if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
        return "has to be set"
    value: Any = field.default
    if value is None or value in ((), {}) or value is msgspec.NODEFAULT or isinstance(value, msgspec.Struct):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 2**20 and value % 2**20 == 0:
        return f"`{value}` ({value >> 20} MiB)"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
