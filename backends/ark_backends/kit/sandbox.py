"""The inside of a child process that works on what nobody trusts: its limits, and its channel to the server.

A child is a program that calls `serve`. It imports everything it needs first, because `serve` gives up the right to
open anything.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable

MEGABYTE = 1 << 20

HEADER = struct.Struct(">cI")
"""Before each message: its kind, one letter, and the length of its payload."""

READY, FAILED = b"Y", b"!"
"""A child's first message, and its last one, with a traceback, when a job raised what it should not."""


class Disconnected(Exception):
    """The server has closed the channel, or is gone."""


class Channel:
    """Messages between the server and this process, over standard input and output."""

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Raises Disconnected."""
        rest = memoryview(HEADER.pack(kind, len(payload)) + payload)
        try:
            while rest:
                rest = rest[os.write(1, rest) :]
        except OSError as error:
            raise Disconnected from error

    def receive(self) -> tuple[bytes, bytes]:
        """The next message. Raises Disconnected."""
        kind, length = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(length)

    def _exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = os.read(0, min(size, MEGABYTE))
            if not part:
                raise Disconnected
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def serve(handle: Callable[[Channel], None], *, memory: int) -> None:
    """Call `handle`, which receives and answers the messages of one job, until the server closes the channel.

    `memory` is how many bytes the jobs may add to what the process has now.
    """
    restrict(memory)
    channel = Channel()
    try:
        channel.send(READY)
        while True:
            handle(channel)
    except Disconnected:
        return
    except Exception:
        channel.send(FAILED, traceback.format_exc().encode())
        raise


def restrict(memory: int) -> None:
    """Give up whatever work on bytes does not need: files, network, processes, memory without end.

    A process that may open no descriptor can open neither a file nor a socket, on every Unix. Memory is limited where
    the kernel does so, which macOS does not.
    """
    # The server decides when a child ends: a signal to the whole group would end jobs that a drain waits for.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)
    os.close(silence)
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NPROC, 0)]
    if sys.platform == "linux":
        limits.append((resource.RLIMIT_AS, _address_space() + memory))
    for limit, most in [*limits, (resource.RLIMIT_NOFILE, 3)]:
        allowed = _within(most, resource.getrlimit(limit)[1])
        resource.setrlimit(limit, (allowed, allowed))


def limit_cpu(seconds: float) -> None:
    """Let the kernel end this process once it has used so many seconds of CPU in all, `time.process_time` says how
    many it has. They are rounded up."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (_within(math.ceil(seconds), hard), hard))


def _within(most: int, hard: int) -> int:
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def _address_space() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
