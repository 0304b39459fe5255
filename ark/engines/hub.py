"""The hub of models, as far as ARK asks it: huggingface_hub, and what goes wrong with it in ARK's words.

It comes with the extras of the engines, so it is imported when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ark.config import ConfigError

SMALL_FILES = ("config.json", "modules.json", "1_Pooling/config.json")
"""What a model is told by."""


def installed() -> bool:
    return find_spec("huggingface_hub") is not None


def small_files(repo: str, revision: str | None) -> Path:
    """The directory with a model's `SMALL_FILES`, which are downloaded if they are not here yet. Raises ConfigError."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    with asked(repo, revision), _without_bars():
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(SMALL_FILES)))


def sizes(repo: str, revision: str | None) -> dict[str, int]:
    """The files of a model on the hub, and their bytes as far as it says. Raises ConfigError."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    with asked(repo, revision):
        files = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings or ()
        return {file.rfilename: file.size or 0 for file in files}


@contextmanager
def asked(repo: str, revision: str | None) -> Iterator[None]:
    """Raise ConfigError for what goes wrong with huggingface_hub inside, and say what to do about it."""
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    absent = f"{repo!r} is not a directory, and"
    try:
        yield
    except GatedRepoError as error:
        raise ConfigError(f"the hub model {repo!r} is gated: accept its terms on its page and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise ConfigError(f"the hub model {repo!r} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ConfigError(f"{absent} not a model on the hub either, or a private one: that needs HF_TOKEN") from error
    except HFValidationError as error:
        raise ConfigError(f"{repo!r} is neither a directory nor a name that a model on the hub can have") from error
    except (OSError, _client_error()) as error:
        cause = error.__cause__ or error
        if isinstance(cause, OfflineModeIsEnabled):
            raise ConfigError(f"{absent} not downloaded yet, which HF_HUB_OFFLINE forbids") from error
        if isinstance(error, LocalEntryNotFoundError):
            raise ConfigError(f"{absent} the hub cannot be reached to download it: {_line(cause)}") from error
        raise ConfigError(f"the hub model {repo!r} cannot be downloaded: {_line(error)}") from error


@contextmanager
def bars() -> Iterator[None]:
    """Progress bars inside, where somebody sees them: a log has no use for them."""
    if sys.stderr.isatty():
        yield
    else:
        with _without_bars():
            yield


@contextmanager
def _without_bars() -> Iterator[None]:
    from huggingface_hub import utils  # noqa: PLC0415

    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _client_error() -> type[Exception]:
    """What the HTTP client of huggingface_hub raises: it has been httpx's and is httpx2's, by its version."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    found: type[Exception] = HfHubHTTPError.__bases__[0]
    return found


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
