"""Logs on standard error: a line of JSON for each record, or a plainer line in a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(enc_hook=str)


class JSONFormatter(logging.Formatter):
    """One line per record: time (UTC), level, logger, message, the record's `fields`, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            return _encoder.encode(line).decode()
        except UnicodeEncodeError:
            # A lone surrogate, as in the name of a file that is not UTF-8: `json` writes it as an escape.
            return json.dumps(line, default=str)


class TerminalFormatter(logging.Formatter):
    """For a terminal: the local time, the message and the record's `fields`, and the traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {name}={_shown(value)}" for name, value in getattr(record, "fields", {}).items())
        traceback = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{time} {record.levelname.lower():<7} {_shown(record.getMessage())}{fields}{traceback}"


def _shown(value: object) -> str:
    """A value as text without control characters: a path may come from a client."""
    text = str(value)
    return text if text.isprintable() else json.dumps(text)


def configure(level: str) -> None:
    """Write ARK's logs to standard error, unless the application around it configures logging itself."""
    logger = logging.getLogger("ark")
    if not logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(TerminalFormatter() if sys.stderr.isatty() else JSONFormatter())
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(level.upper())
