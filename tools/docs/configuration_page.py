"""docs/configuration.md: every field of the configuration with its values, from the code that reads it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ark.config import (
    KeyConfig,
    LimitsConfig,
    ModelConfig,
    ResponsesConfig,
    SamplingConfig,
    ServerConfig,
    SessionsConfig,
)
from ark.http.cors import CORSConfig
from ark.models.default_models import DEFAULT_ALIASES
from ark_backends.bge.options import BgeOptions
from ark_backends.exllama.options import ExLlamaV2Options, ExLlamaV3Options
from ark_backends.remote.options import RemoteOptions
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.whisper.options import VadConfig, WhisperOptions
from fields import default, docstrings, values

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"

NAMES = "; ".join(", ".join(f"`{name}`" for name in names) for names in DEFAULT_ALIASES.values())

INTRODUCTION = f"""\
# Configuration

<!-- Made by `make pages` from tools/docs/configuration_page.py -->

To configure ARK, write an `ark.toml`. ARK reads the file that `--config` names, else the one that `$ARK_CONFIG` names,
else `ark.toml` in the directory where it starts. Without a file it serves the default models. A bad value or an
unknown field ends the start, with the file, the field and the reason.

```toml
[server]
log_level = "info"

[sessions]
path = "/var/lib/ark/sessions.sqlite" # transcripts survive a restart
idle_timeout = 7200

[limits]
key_requests_per_minute = 120

[[keys]] # `ark key team` makes a key and this table
name = "team"
sha256 = "{"0123456789abcdef" * 4}"

[[models]]
name = "Qwen/Qwen2.5-0.5B-Instruct"
aliases = ["gpt-4o"]

[models.sampling]
temperature = 0.7

[models.engine]
kv_bytes = 4_000_000_000

[[models]]
name = "BAAI/bge-m3"
task = "embedding"

[aliases]
"text-embedding-3-small" = "BAAI/bge-m3"
```

`ARK_<TABLE>__<FIELD>` in the environment overrides a field of `[server]`, `[limits]` or `[sessions]`. Its value is
written as in TOML: `ARK_SERVER__LOG_LEVEL=debug`, `ARK_LIMITS__BODY_BYTES=1000000`.

`[aliases]` gives any name to any served model, in addition to the `aliases` of each model. Without the table, the names
that OpenAI's clients use most are aliases of the first model of their task:
{NAMES}. An empty table removes them. A star stands for any letters: such a pattern is not listed, the name of a served
model or an alias comes before it, and of two patterns the longer one.

In the tables below, "-" means that there is no fixed default.
"""

TABLES: tuple[tuple[str, type], ...] = (
    ("`[server]`", ServerConfig),
    ("`[server.cors]`", CORSConfig),
    ("`[limits]`", LimitsConfig),
    ("`[sessions]`", SessionsConfig),
    ("`[responses]`", ResponsesConfig),
    ("`[[keys]]`", KeyConfig),
    ("`[[models]]`", ModelConfig),
    ("`[models.sampling]`", SamplingConfig),
    ("`[models.engine]` of torch_chat", TorchChatOptions),
    ("`[models.engine]` of exllamav2", ExLlamaV2Options),
    ("`[models.engine]` of exllamav3", ExLlamaV3Options),
    ("`[models.engine]` of remote", RemoteOptions),
    ("`[models.engine]` of bge", BgeOptions),
    ("`[models.engine]` of whisper", WhisperOptions),
    ("`[models.engine.vad]` of whisper", VadConfig),
)

UNTOLD = {
    "log_level": "Lowest level of log lines.",
    "cors": "`[server.cors]`, below.",
    "requests_per_minute": "The key's own `key_requests_per_minute`.",
    "tokens_per_minute": "The key's own `key_tokens_per_minute`.",
    "task": "What the model does.",
    "sampling": "`[models.sampling]`: defaults for requests without temperature, top_p and so on.",
    "temperature": "For requests without `temperature`. The default of this and the next fields comes from the model's "
    "own files.",
    "top_p": "For requests without `top_p`.",
    "top_k": "For requests without `top_k`.",
    "min_p": "For requests without `min_p`.",
    "repetition_penalty": "For requests without `repetition_penalty`.",
    "presence_penalty": "For requests without `presence_penalty`.",
    "frequency_penalty": "For requests without `frequency_penalty`.",
}
"""Fields without a docstring, or with one for several fields."""


def page() -> str:
    """The current text of the page."""
    sections = [f"## {title}\n\n" + "\n".join(rows(kind)) + "\n" for title, kind in TABLES]
    return "\n".join([INTRODUCTION, *sections])


def rows(kind: type) -> list[str]:
    told = docstrings(kind)
    lines = ["| field | values | default | what it is |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        text = " ".join(told.get(field.name) or [UNTOLD[field.name]])
        # TOML's word for an object is table.
        kinds = values(field.type).replace("object", "table")
        lines.append(f"| `{field.name}` | {kinds} | {default(field)} | {text} |")
    return lines
