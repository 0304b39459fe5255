"""The hub of models, through huggingface_hub, with errors in ARK's words.

The library comes with the extras of the backends, so it is imported when it is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from ark.config import ConfigError

SMALL_FILES = ("config.json", "modules.json", "1_Pooling/config.json")
"""The files that say what a model is."""


def installed() -> bool:
    return find_spec("huggingface_hub") is not None


def split(source: str) -> tuple[str, str]:
    """The repository, and what comes behind a colon: which of the models in it, as its backend names them."""
    repo, _, choice = source.partition(":")
    return repo, choice


def small_files(source: str, revision: str | None) -> Path:
    """The directory of a model's `SMALL_FILES`, downloaded if they are not here yet. Raises ConfigError."""
    from huggingface_hub.utils import logging  # noqa: PLC0415

    before = logging.get_verbosity()
    # That it has none of them is nothing to warn of.
    logging.set_verbosity_error()
    try:
        with no_progress_bars():
            return download(source, revision, SMALL_FILES)
    finally:
        logging.set_verbosity(before)


def download(source: str, revision: str | None, files: Sequence[str]) -> Path:
    """The directory of a model's files of such names, downloaded if they are not here yet. Raises ConfigError."""
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    repo, _ = split(source)
    with hub_errors(repo, revision), progress_bars():
        return Path(snapshot_download(repo, revision=revision, allow_patterns=list(files)))


def sizes(source: str, revision: str | None) -> dict[str, int]:
    """The files of a model on the hub with their sizes, 0 for one that the hub does not give. Raises ConfigError."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    repo, _ = split(source)
    with hub_errors(repo, revision):
        files = HfApi().model_info(repo, revision=revision, files_metadata=True).siblings or ()
        return {file.rfilename: file.size or 0 for file in files}


@contextmanager
def hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn the errors of huggingface_hub into a ConfigError that says what to do."""
    from huggingface_hub import errors  # noqa: PLC0415

    # The HTTP client of huggingface_hub has been httpx and is httpx2, by its version.
    http_error: type[Exception] = errors.HfHubHTTPError.__bases__[0]
    absent = f"{repo!r} is not a directory, and"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ConfigError(f"the hub model {repo!r} is gated: accept its terms on its page and set HF_TOKEN") from error
    except errors.RevisionNotFoundError as error:
        raise ConfigError(f"the hub model {repo!r} has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise ConfigError(f"{absent} not a model on the hub either, or a private one: that needs HF_TOKEN") from error
    except errors.HFValidationError as error:
        raise ConfigError(f"{repo!r} is neither a directory nor a name that a model on the hub can have") from error
    except (OSError, http_error) as error:
        cause = error.__cause__ or error
        if isinstance(cause, errors.OfflineModeIsEnabled):
            raise ConfigError(f"{absent} not downloaded yet, which HF_HUB_OFFLINE forbids") from error
        if isinstance(error, errors.LocalEntryNotFoundError):
            raise ConfigError(f"{absent} the hub cannot be reached to download it: {_first_line(cause)}") from error
        raise ConfigError(f"the hub model {repo!r} cannot be downloaded: {_first_line(error)}") from error


def progress_bars() -> AbstractContextManager[None]:
    """Show progress bars in a terminal, and none in a log."""
    return nullcontext() if sys.stderr.isatty() else no_progress_bars()


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep huggingface_hub from showing any."""
    from huggingface_hub import utils  # noqa: PLC0415

    if utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
