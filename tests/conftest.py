"""What every test has."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from _pytest.nodeid import coerce_node_id
from hypothesis import settings

# Each of the processes that test at the same time computes on one core, as do the servers that it starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What is compiled is kept beside the tests, for the processes that they start as well, and not with the user's own.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "numba"))

# An example may take long on a busy machine; pytest's own timeout is enough.
settings.register_profile("ark", deadline=None)
settings.load_profile("ark")


ROOT = Path(__file__).parent
HARDWARE = re.compile(r"\b(GPU|CPU|CUDA)\b")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="fail what is skipped for want of anything but hardware")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files backwards: those that start servers come before the many short ones of tests/ark, so that of two
    processes neither ends long before the other."""
    items.sort(key=lambda item: item.path.relative_to(ROOT).parts, reverse=True)
    for item in items:
        # schemathesis gives all tests of a function one id, and pytest-xdist would run the first alone.
        if not item.nodeid.endswith(item.name):
            item._id = coerce_node_id(f"{item.nodeid.rpartition('::')[0]}::{item.name}")


def refuse_skip(config: pytest.Config, report: pytest.TestReport | pytest.CollectReport) -> None:
    if config.getoption("no_skips") and report.skipped and not hasattr(report, "wasxfail"):
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2]
        if not HARDWARE.search(reason):
            report.outcome = "failed"
            report.longrepr = f"{report.nodeid}: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(item.config, report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(collector.config, report)
    return report


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
