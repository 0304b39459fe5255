"""Where the GGUF of a configured model is: a file, the only one of a directory, or one of a repository on the hub. This
module is light.

A repository has a model in many types; ``ORG/REPO:Q4_K_M`` names one of them, and ``ORG/REPO:FILE.gguf`` a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ark.config import ConfigError
from ark.engines import hub
from ark.engines.model_files import CONFIG, find_local
from ark_backends.kit.gguf.file import SPLIT, parts

USUAL = "Q4_K_M"
"""The type that is taken of several where none is named, as llama.cpp does."""

OTHER = re.compile(r"mmproj|imatrix", re.IGNORECASE)
"""Files beside a model's."""

LABEL = re.compile(r"[-.]((?:UD-)?(?:I?Q\d|F16|F32|BF16|MXFP4)\w*)(?:-\d{5}-of-\d{5})?\.gguf", re.IGNORECASE)
"""The type in a file's name."""


def find_file(source: str) -> Path | None:
    """The file of a source on this machine, the first of one that is split; None where it is no GGUF."""
    local = find_local(source)
    if local is None:
        return None
    if not local.is_dir():
        return local
    if (local / CONFIG).is_file() and any(local.glob("*.safetensors")):
        return None
    names = choose({path.name: 0 for path in local.glob("*.gguf")}, "", source)
    return local / names[0] if names else None


def is_on_hub(source: str) -> bool:
    """Whether a source may be a name on the hub: it is nothing on this machine, and looks like no path."""
    repo, _ = hub.split(source)
    looks_like_a_path = source.startswith(("/", ".", "~")) or repo.count("/") > 1
    return find_local(source) is None and not looks_like_a_path and hub.installed()


def hub_files(source: str, revision: str | None) -> dict[str, int]:
    """The files that a source on the hub stands for, with their sizes, in order; none where they are no GGUF. Without
    the hub these are the ones that are here."""
    _, choice = hub.split(source)
    try:
        sizes = hub.sizes(source, revision)
    except ConfigError:
        directory = hub.small_files(source, revision)
        sizes = {str(path.relative_to(directory)): path.stat().st_size for path in directory.rglob("*.gguf")}
        if choice and not sizes:
            raise
    if not choice and any(name.endswith(".safetensors") for name in sizes):
        return {}
    return {name: sizes[name] for name in choose(sizes, choice, source)}


def download(source: str, revision: str | None) -> Path | None:
    """The file of a source on the hub, downloaded if it is not here; None where it is no GGUF. Raises ConfigError."""
    names = list(hub_files(source, revision))
    if not names:
        return None
    path = hub.download(source, revision, names) / names[0]
    for part in parts(path):
        if not part.exists():
            raise ConfigError(f"{part.name} of the hub model {source!r} is not here")
    return path


def choose(sizes: Mapping[str, int], choice: str, source: str) -> list[str]:
    """The names of a model's files: all parts of one that is split. None where there are no GGUFs. Raises ConfigError
    where it is not clear which they are."""
    names = sorted(name for name in sizes if name.endswith(".gguf") and not OTHER.search(name))
    firsts = [name for name in names if (match := SPLIT.fullmatch(name)) is None or match[2] == "00001"]
    if choice:
        found = [name for name in firsts if choice in (name, Path(name).name)]
        found = found or [name for name in firsts if _label(name).upper() == choice.upper()]
        if not found:
            raise ConfigError(f"{source!r} names no GGUF there; there are: {_known(firsts)}")
    elif len(firsts) > 1:
        found = [name for name in firsts if _label(name).upper() == USUAL]
        if not found:
            raise ConfigError(f"{source!r} has several GGUFs; name one as {source}:TYPE, of: {_known(firsts)}")
    else:
        found = firsts
    if not found:
        return []
    first = found[0]
    match = SPLIT.fullmatch(first)
    return [first] if match is None else [name for name in names if name.startswith(f"{match[1]}-")]


def _label(name: str) -> str:
    match = LABEL.search(Path(name).name)
    return match[1] if match else ""


def _known(names: list[str]) -> str:
    return ", ".join(_label(name) or Path(name).name for name in names) or "none"
