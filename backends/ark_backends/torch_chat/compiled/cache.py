"""How functions are compiled, and where what was compiled is kept for the next start."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numba

from ark_backends.torch_chat.compiled.simd import WIDTH

log = logging.getLogger("ark.torch_chat")

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {
    "nogil": True,
    # Every sum has the order that is written down: a vector's order would depend on how a loop was compiled.
    "fastmath": False,
    "error_model": "numpy",
    # Nothing is allocated, so nothing has to be counted.
    "_nrt": False,
}


def compiled(function: Function) -> Function:
    """Compile a function when it is first called from one that is compiled."""
    made: Function = numba.njit(**OPTIONS)(function)
    return made


def kept(function: Function) -> Function:
    """Compile a function at its first call, or take what an earlier process compiled."""
    try:
        with _in(directory()):
            made: Function = numba.njit(cache=True, **OPTIONS)(function)
            return made
    except (OSError, RuntimeError) as error:
        log.info("compiled functions cannot be kept: %s", error)
        return compiled(function)


def address(function: Callable[..., Any], takes: str) -> int:
    """The address of a function of such types that returns nothing, compiled now or by an earlier process.

    Large ones are called by it: within another, the compiler would work on them once more.
    """
    key = (function, takes)
    if key not in _entries:
        signature = f"void({takes})"
        try:
            with _in(directory()):
                _entries[key] = numba.cfunc(signature, cache=True, **OPTIONS)(function)
        except Exception as error:  # noqa: BLE001 - broken files, and those that cannot be written, fail in many ways
            log.info("compiled functions cannot be read or kept: %s", error)
            _forget()
            _entries[key] = numba.cfunc(signature, **OPTIONS)(function)
    return int(_entries[key].address)


_entries: dict[tuple[Callable[..., Any], str], Any] = {}


def again(function: Any) -> Any:
    """Compile a `kept` function anew, and forget what was kept: it may be what cannot be read."""
    _forget()
    return compiled(function.py_func)


def _forget() -> None:
    with suppress(OSError, RuntimeError):
        shutil.rmtree(directory())


def directory() -> Path:
    """Where it is kept: numba's own directory where one is set, the user's cache otherwise.

    Raises RuntimeError where the user has no home.
    """
    # numba looks at the file of a function alone to see whether what it kept is still right. The name has it all.
    sources = sorted(Path(__file__).parent.glob("*.py"))
    seen = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    name = f"{seen.hexdigest()[:16]}-{8 * WIDTH}"
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / f"ark-{name}"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ark" / "compiled" / name


@contextmanager
def _in(path: Path) -> Iterator[None]:
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        # numba would look for another place, where it sees less of what is out of date.
        raise PermissionError(f"{path} cannot be written")
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(path)
    try:
        yield
    finally:
        numba.config.CACHE_DIR = before
