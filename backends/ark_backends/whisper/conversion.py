"""A transformers Whisper directory, converted for CTranslate2 on first use."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path

from ark.config import ConfigError
from ark.engines.model_files import read_json

log = logging.getLogger("ark.whisper")

COPIED = ("tokenizer.json", "preprocessor_config.json")


def converted(path: Path) -> Path:
    """The directory of the converted model: a folder in `path`, or in the user's cache where that cannot be written.

    Converts the model if it is not there, which takes a minute for a large one. Raises ConfigError.
    """
    if (read_json(path / "config.json") or {}).get("model_type") != "whisper":
        raise ConfigError(f"{path} holds neither a CTranslate2 model (model.bin) nor a Whisper of transformers")
    name = f"ctranslate2-{_fingerprint(path)}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ark"
    places = [path / name, cache / name]
    for place in places:
        if (place / "model.bin").is_file():
            return place
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            folder = tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place.parent, ignore_cleanup_errors=True)
        except OSError:
            continue
        with folder:
            made = Path(folder.name) / name
            _convert(path, made)
            try:
                # Atomic: another process may look for it now.
                made.rename(place)
            except OSError as error:
                if not (place / "model.bin").is_file():
                    raise ConfigError(f"the converted model cannot be kept as {place}: {error}") from error
        return place
    raise ConfigError(f"neither {path} nor {cache} can be written, where the converted model would be kept")


def _fingerprint(path: Path) -> str:
    """Changes with the files that are converted, so that new weights are converted anew."""
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.bin"), *path.glob("*.json")])
    about = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(repr(about).encode()).hexdigest()[:12]


def _convert(path: Path, target: Path) -> None:
    try:
        import transformers  # noqa: PLC0415 - only a conversion needs it
        from ctranslate2.converters import TransformersConverter  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"converting {path} for CTranslate2 needs the extra 'torch': {error}") from error
    log.info("converting %s for CTranslate2, once", path)
    started = time.monotonic()
    shown = transformers.utils.logging.is_progress_bar_enabled()
    try:
        if not (path / "tokenizer.json").is_file():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
            target.mkdir(parents=True)
            tokenizer.backend_tokenizer.save(str(target / "tokenizer.json"))
        copied = [name for name in COPIED if (path / name).is_file()]
        TransformersConverter(str(path), copy_files=copied).convert(str(target), force=True)
    except Exception as error:  # whatever a broken file makes the libraries raise
        shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(f"{path} cannot be converted for CTranslate2: {error}") from error
    finally:
        if not shown:
            transformers.utils.logging.disable_progress_bar()
    log.info("converted %s in %.0f s", path, time.monotonic() - started)
