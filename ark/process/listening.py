"""Where ``ark serve`` listens, and what becomes of connections that it has no room for."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import socket
import time
from ipaddress import ip_address
from typing import Any

log = logging.getLogger("ark.server")

BACKLOG = 2048
"""Connections that may wait to be accepted: a burst of clients, before the system makes them try again later."""

_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE = 0.5
"""Seconds without a connection behind one that could not be accepted. Asyncio tries again after one second."""
_SILENCE = 60.0
"""Seconds between two lines of the log about it."""


class Listening(socket.socket):
    """A listening socket that accepts nothing for a moment when no more files can be opened.

    Asyncio accepts as many connections at once as the backlog has, goes on to the last though each of them fails, and
    begins anew a second later for every one that has: the log and the processor would soon be full of it. Behind the
    first failure this one says that nobody waits.
    """

    _full_until = -math.inf

    @classmethod
    def of(cls, bound: socket.socket, user_timeout: float) -> Listening:
        """In place of `bound`, which is closed by it.

        After `user_timeout` seconds the kernel ends connections whose client takes nothing of what is sent: ARK gives
        its reply up, but what is buffered would keep the connection open.
        """
        listening = cls(fileno=bound.detach())
        if listening.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            # A connection has what its listening socket has.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))
        return listening

    def accept(self) -> tuple[socket.socket, Any]:
        if time.monotonic() < self._full_until:
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            if error.errno in _FULL:
                self._full_until = time.monotonic() + _PAUSE
            raise


class FullHandler:
    """The event loop's exception handler: that connections cannot be accepted is said once a minute."""

    def __init__(self) -> None:
        self._said = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ValueError) and "_start_serving" in context["message"]:
            # It would have tried again, and the server has stopped meanwhile.
            return
        if not (isinstance(error, OSError) and error.errno in _FULL and "socket" in context):
            loop.default_exception_handler(context)
        elif loop.time() - self._said >= _SILENCE:
            self._said = loop.time()
            log.error("new connections wait, for they cannot be accepted: %s", error.strerror)


def address(host: str, port: int) -> str:
    """Host and port as --bind takes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def loopback(bind: str) -> bool:
    """Whether what --bind names can be reached from this machine alone."""
    if bind.startswith("unix:"):
        return True
    host = bind.rpartition(":")[0] if ":" in bind else bind
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
