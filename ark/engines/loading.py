"""Finds a backend by its entry point."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from ark.engines.backend import Backend

ENTRY_POINT_GROUP = "ark.backends"


_WORK = {"chat": "generate", "embedding": "embed", "transcription": "transcribe"}
"""The method that does the work of a task: by it a backend is known."""


def load_backend(name: str, task: str) -> type[Backend]:
    """The class that the entry point `name` of the group ``ark.backends`` points to.

    A name with a colon, ``package.module:Class``, is imported as it stands. Raises LookupError with the names that
    are installed, with what the import lacks, or when the class does not do `task`.
    """
    if ":" in name:
        point = EntryPoint(name, name, ENTRY_POINT_GROUP)
    else:
        found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise LookupError(f"no backend is called {name!r}; installed: {known}")
        point = found[name]
    try:
        backend: type[Backend] = point.load()
    except (ImportError, AttributeError) as error:
        raise LookupError(f"the backend {name!r} cannot be imported: {error}") from error
    if not callable(getattr(backend, _WORK[task], None)):
        raise LookupError(f"the backend {name!r} does not do the task {task!r}: it has no method {_WORK[task]}")
    return backend
