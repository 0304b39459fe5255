"""Log lines."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ark.ops.logs import JSONFormatter, configure


@contextmanager
def bare_logging() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """No handlers but those that ARK puts up, pytest's own included; gives what stands on standard error, by lines."""
    root, stream = logging.getLogger(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])
        patch.setattr(sys, "stderr", stream)
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object() -> None:
    with bare_logging() as written:
        configure("info")
        fields = {"status": 200, "other": None}
        logging.getLogger("ark.app").info("a %s\nwith lines", "message", extra={"fields": fields})
    (line,) = written()
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "ark.app",
        "message": "a message\nwith lines",
        "status": 200,
        "other": None,
    }


def test_a_traceback_is_on_the_same_line() -> None:
    with bare_logging() as written:
        configure("info")
        try:
            raise ZeroDivisionError("first\nsecond")
        except ZeroDivisionError:
            logging.getLogger("ark.app").exception("failed")
    (line,) = written()
    assert "ZeroDivisionError: first\nsecond" in line["traceback"]
    assert (line["level"], line["message"]) == ("error", "failed")


@pytest.mark.parametrize("value", ["\ud800", b"bytes", object(), {1, 2}, float("nan"), {"a": ("b",)}, ["\udcff"]])
def test_any_value_can_be_logged(value: Any) -> None:
    with bare_logging() as written:
        configure("info")
        logging.getLogger("ark.app").info("said %s", value, extra={"fields": {"value": value}})
    (line,) = written()
    assert line["message"].startswith("said ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_a_line_is_easier_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with bare_logging():
        monkeypatch.setattr(sys, "stderr", screen := Terminal())
        configure("info")
        fields = {"request": "GET /\x1b[2J\n", "status": 200}
        logging.getLogger("ark.app").info("a %s", "message", extra={"fields": fields})
        try:
            raise ZeroDivisionError("why")
        except ZeroDivisionError:
            logging.getLogger("ark.app").exception("fai\rled")
    first, second, *rest = screen.getvalue().splitlines()
    assert re.fullmatch(r'\d\d:\d\d:\d\d info    a message request="GET /\\u001b\[2J\\n" status=200', first)
    assert re.fullmatch(r'\d\d:\d\d:\d\d error   "fai\\rled"', second)
    assert (rest[0], rest[-1]) == ("Traceback (most recent call last):", "ZeroDivisionError: why")


def test_the_level_is_kept_and_can_be_changed() -> None:
    with bare_logging() as written:
        configure("warning")
        logging.getLogger("ark.app").info("quiet")
        configure("info")
        logging.getLogger("ark.app").info("heard")
    assert [line["message"] for line in written()] == ["heard"]


def test_an_application_that_has_set_logging_up_keeps_its_own() -> None:
    records: list[logging.LogRecord] = []

    class Own(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    with bare_logging() as written:
        logging.getLogger().addHandler(Own())
        configure("info")
        logging.getLogger("ark.app").info("hello")
    assert [record.getMessage() for record in records] == ["hello"]
    assert written() == []


def test_a_record_that_cannot_be_formatted_raises_nothing_in_the_formatter() -> None:
    record = logging.LogRecord("ark", logging.INFO, __file__, 1, "no arguments", (), None)
    assert json.loads(JSONFormatter().format(record))["message"] == "no arguments"
