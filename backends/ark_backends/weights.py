"""From the configured source of a model to a directory with its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import httpx
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ark.backends import SamplingParams
from ark.config import ConfigError

FURTHER = {
    # BGE-M3's heads, and how vectors are pooled.
    "embedding": ("sparse_linear.pt", "colbert_linear.pt", "1_Pooling/config.json"),
    # CTranslate2's own files.
    "transcription": ("model.bin", "vocabulary.*"),
}
"""Task to patterns of the files that its backend reads beside what every model needs."""

NEEDED = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")


def resolve(source: str, revision: str | None = None, *, also: Sequence[str] = ()) -> Path:
    """The directory of a model: an existing one, or the hub repository of that id, downloaded once.

    `also` has patterns of further files that its backend reads. Blocks while it downloads. Raises ConfigError when
    there is neither.
    """
    directory = Path(source).expanduser()
    if directory.is_dir():
        return directory
    if directory.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise ConfigError(f"the model directory {source!r} does not exist")
    return _download(source, revision, also)


def files_of(task: str) -> Sequence[str]:
    """What `resolve` takes as `also` for a model of a task."""
    return FURTHER.get(task, ())


def _download(repo: str, revision: str | None, also: Sequence[str]) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=_listed(repo, revision, also)))
    except GatedRepoError as error:
        raise ConfigError(f"the hub model {repo!r} is gated: accept its terms on its page and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"the hub model {repo!r} has no revision {revision!r}") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ConfigError(f"{repo!r} is neither a directory nor a model on the hub") from error
    except LocalEntryNotFoundError as error:
        raise ConfigError(f"{repo!r} is not a directory, and the hub cannot be reached to download it") from error
    except (OSError, httpx.HTTPError) as error:
        raise ConfigError(f"the hub model {repo!r} cannot be downloaded: {error}") from error


def _listed(repo: str, revision: str | None, also: Sequence[str]) -> list[str] | None:
    """The files to download, None when the hub cannot be asked: then what was downloaded before will do."""
    try:
        files = [file.rfilename for file in HfApi().model_info(repo, revision=revision).siblings or ()]
        return wanted(files, also)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except (OSError, httpx.HTTPError):
        return None


def wanted(files: list[str], also: Sequence[str] = ()) -> list[str]:
    """Of a repository's files, those that serving needs: at its top, the weights in one format only, and those that
    match a pattern of `also`."""
    top = [name for name in files if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    # A repository may hold the whole model in one file beside the same in shards.
    shards = [name for name in weights if "-of-" in name]
    if "model.safetensors" in weights and shards:
        weights = ["model.safetensors"]
    if not weights:
        weights = [name for name in top if name.startswith("pytorch_model") and name.endswith(".bin")]
    needed = {name for name in top if any(Path(name).match(pattern) for pattern in NEEDED)}
    more = {name for name in files if any(fnmatchcase(name, pattern) for pattern in also)}
    return sorted(needed | more | set(weights))


def recommended_sampling(path: Path) -> SamplingParams:
    """What a model's generation_config.json says of sampling; the neutral values where it says nothing."""
    try:
        found = json.loads((path / "generation_config.json").read_bytes())
    except FileNotFoundError:
        return SamplingParams()
    except ValueError as error:
        raise ConfigError(f"{path / 'generation_config.json'} is not JSON: {error}") from error
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    return SamplingParams(**{name: found[name] for name in names if isinstance(found.get(name), int | float)})
