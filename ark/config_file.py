"""Reading ``ark.toml``.

From ``$ARK_CONFIG``, else from ``ark.toml`` in the working directory, else the defaults, which serve the default
models. Environment variables ``ARK_<TABLE>__<FIELD>`` override single fields of the tables (not of the models). Every
problem is a `ConfigError` that names the file, the field and the reason.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ark.config import Config, ConfigError, KeyConfig, Options
from ark.suggestions import explain


class KeysTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of a ``keys_file``."""

    keys: tuple[KeyConfig, ...] = ()


def load_config(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    `path` comes first, then ``$ARK_CONFIG``, then ``ark.toml`` in the working directory if there is one. Raises
    ConfigError for a file that is missing or not TOML, and for a field that is unknown or has a bad value.
    """
    environ = os.environ if environ is None else environ
    # An empty variable, as container files write one that is not set, is none.
    chosen = path if path is not None else environ.get("ARK_CONFIG") or None
    if chosen is None and Path("ark.toml").is_file():
        chosen = "ark.toml"
    table: dict[str, Any] = {} if chosen is None else _read_toml(Path(chosen))
    names = ", ".join(_override(table, environ))
    where = f"{chosen} with {names}" if chosen and names else str(chosen or names)
    return _convert(table, Config, where)


def load_keys(path: Path) -> tuple[KeyConfig, ...]:
    """The keys of a file that has nothing else. Raises ConfigError."""
    return _convert(_read_toml(path), KeysTable, str(path)).keys


def _convert(table: dict[str, Any], kind: type[Options], where: str) -> Options:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}{explain(error, kind)}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


_OVERRIDE = re.compile(r"ARK_([A-Z]+)__([A-Z_]+)")


def _override(table: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Put ``ARK_<TABLE>__<FIELD>`` variables into the table; returns the names used."""
    used = []
    for name in sorted(environ):
        match = _OVERRIDE.fullmatch(name)
        if match is None:
            continue
        section, field = match[1].lower(), match[2].lower()
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{name}: [{section}] is not a table")
        inner[field] = _toml_value(environ[name])
        used.append(name)
    return used


def _toml_value(text: str) -> Any:
    """Numbers, booleans and lists as TOML writes them; everything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
