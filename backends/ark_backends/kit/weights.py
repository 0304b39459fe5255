"""From the configured source of a model to a directory with its files."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from huggingface_hub import snapshot_download

from ark.config import ConfigError
from ark.engines import hub
from ark.engines.chat import SamplingParams
from ark.engines.model_files import WEIGHTS, find_local, read_json
from ark_backends.kit.sampling_defaults import sampling_by_name

FURTHER = {
    # BGE-M3's heads, and the pooling of vectors.
    "embedding": ("sparse_linear.pt", "colbert_linear.pt", "1_Pooling/config.json"),
    # CTranslate2's own files.
    "transcription": ("model.bin", "vocabulary.*"),
}
"""By task, patterns of the files that its backend reads beside those that every model has."""

NEEDED = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")


def resolve(source: str, revision: str | None = None, *, also: Sequence[str] = ()) -> Path:
    """The directory or file of a model: an existing one, or the hub repository of that id, downloaded once.

    `also` has patterns of further files to download. Blocks while it downloads. Raises ConfigError when there is
    neither.
    """
    directory = find_local(source)
    if directory is not None:
        return directory
    if source.startswith(("/", ".", "~")) or source.count("/") > 1:
        raise ConfigError(f"the model {source!r} does not exist")
    return _download(source, revision, also)


def files_of(task: str) -> Sequence[str]:
    """What `resolve` takes as `also` for a model of a task."""
    return FURTHER.get(task, ())


def _download(repo: str, revision: str | None, also: Sequence[str]) -> Path:
    try:
        files = wanted(list(hub.sizes(repo, revision)), also)
    except ConfigError as error:
        # The model may have been downloaded before; if not, this raises why the hub cannot be asked.
        directory = hub.small_files(repo, revision)
        if missing := _missing(directory):
            name = repo if revision is None else f"{repo}@{revision}"
            what = f"the hub model {name!r} was downloaded in part, without {missing}"
            raise ConfigError(f"{what}: go on by 'ark pull {name}' where the hub can be reached") from error
        return directory
    with hub.hub_errors(repo, revision), hub.progress_bars():
        return Path(snapshot_download(repo, revision=revision, allow_patterns=files))


def _missing(directory: Path) -> str | None:
    """What a directory lacks of its weights, as far as its files show; None where they are complete."""
    if (directory / "model.safetensors").is_file():
        return None
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        index = read_json(directory / name)
        if index is not None:
            shards = sorted(set(index.get("weight_map", {}).values()))
            return next((shard for shard in shards if not (directory / shard).is_file()), None)
    return None if any(next(directory.glob(pattern), None) for pattern in WEIGHTS) else "any file of weights"


def wanted(files: list[str], also: Sequence[str] = ()) -> list[str]:
    """The files of a repository that serving needs: those at its top level, with the weights in one format only, and
    those that match a pattern of `also`."""
    top = [name for name in files if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    # A repository may have the model in one file beside the same model in shards.
    shards = [name for name in weights if "-of-" in name]
    if "model.safetensors" in weights and shards:
        weights = ["model.safetensors"]
    if not weights:
        weights = [name for name in top if name.startswith("pytorch_model") and name.endswith(".bin")]
    needed = {name for name in top if any(Path(name).match(pattern) for pattern in NEEDED)}
    more = {name for name in files if any(fnmatchcase(name, pattern) for pattern in also)}
    return sorted(needed | more | set(weights))


def recommended_sampling(path: Path) -> SamplingParams:
    """The sampling parameters in a model's generation_config.json, with neutral values for those that are not there.
    Where it has none, those of the model's family, by the name of its directory or of its repository."""
    found = read_json(path / "generation_config.json") or {}
    if found.get("do_sample") is False:
        return SamplingParams(temperature=0.0)
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    values = {name: found[name] for name in names if isinstance(found.get(name), int | float)}
    # The hub's cache has a directory for each commit below that of the repository.
    repository = path.parent.parent.name if path.parent.name == "snapshots" else ""
    return SamplingParams(**values) if values else sampling_by_name(path.name, repository)
