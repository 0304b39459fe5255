"""What every test has."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# What is compiled is kept beside the tests, for the processes that they start as well, and not with the user's own.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "numba"))

# An example may take long on a busy machine; pytest's own timeout is enough.
settings.register_profile("ark", deadline=None)
settings.load_profile("ark")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as hypercorn's default worker does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def ark_logging() -> Iterator[None]:
    """ARK sets its logger up when it starts; no test sees what another one left there."""
    logger = logging.getLogger("ark")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    logger.handlers[:] = []
    logger.propagate = True
    yield
    logger.setLevel(level)
    logger.propagate = propagate
    logger.handlers[:] = handlers
