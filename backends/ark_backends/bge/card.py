"""What the files in a model's directory say: pooling, normalization, length and heads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ark.config import ConfigError
from ark_backends.bge.options import Pooling

HEADS = ("sparse_linear.pt", "colbert_linear.pt")
"""The files with BGE-M3's heads. One without the other is no use."""

MODULES = ("Transformer", "Pooling", "Normalize")
"""The modules of sentence-transformers that the backend computes."""

MODES: dict[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
"""The names of pooling modes in sentence-transformers."""

OLD_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
"""The flags in place of `pooling_mode` in older files."""


@dataclass(frozen=True)
class Card:
    """What a directory says; None for what it does not say."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    max_length: int | None = None
    """Tokens that the model was trained for, often fewer than it has positions."""
    heads: bool = False
    """The files of BGE-M3's sparse and ColBERT heads are there."""


def read_card(path: Path) -> Card:
    """Read the files of sentence-transformers and FlagEmbedding beside a model.

    Raises ConfigError for a file that cannot be read, and for a module that the backend does not compute.
    """
    modules = _read(path / "modules.json", list)
    kinds = {str(module.get("type", "")).rsplit(".", 1)[-1]: str(module.get("path", "")) for module in modules or ()}
    unknown = [kind for kind in kinds if kind not in MODULES]
    if unknown:
        raise ConfigError(
            f"{path / 'modules.json'} has the module {unknown[0]}, which the backend bge does not compute"
        )
    length = (_read(path / "sentence_bert_config.json", dict) or {}).get("max_seq_length")
    return Card(
        pooling=_pooling(path / kinds.get("Pooling", "1_Pooling") / "config.json"),
        normalize=None if modules is None else "Normalize" in kinds,
        max_length=length if isinstance(length, int) and length > 0 else None,
        heads=all((path / name).is_file() for name in HEADS),
    )


def _pooling(path: Path) -> Pooling | None:
    found = _read(path, dict)
    if found is None:
        return None
    modes = found.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in OLD_MODES.items() if found.get(flag)]
    elif isinstance(modes, str):
        modes = [modes]
    if len(modes) != 1 or modes[0] not in MODES:
        named = " and ".join(map(str, modes)) or "nothing"
        raise ConfigError(f"{path} asks for {named}; the backend bge pools by {', '.join(MODES)}")
    return MODES[modes[0]]


def _read(path: Path, kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """The value in a JSON file; None where there is no file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise ConfigError(f"{path} cannot be read: it holds no {cast(type, kind).__name__}")
    return value
