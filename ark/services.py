"""What endpoints are given: the server's parts, made once by `ark.app`."""

from __future__ import annotations

import time

from ark import __version__
from ark.auth import Keys
from ark.config import Config
from ark.registry import Registry


class Services:
    """The parts of one running server."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.keys = Keys(config.keys)
        self.registry = Registry(config)
        self.created = int(time.time())
        """Unix time at which the server started, the `created` of its models."""
        self.draining = False

    @property
    def fingerprint(self) -> str:
        return f"ark-{__version__}"
