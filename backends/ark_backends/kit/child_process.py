"""Child processes for work on what nobody trusts: a crash, a minute or a gigabyte there costs one request.

They are started as programs of their own and not by `multiprocessing`, which refuses to start any in the daemonic
worker of ``hypercorn -w 1``. A child is started when it is needed, and used again.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ark_backends.kit.sandbox import FAILED, HEADER, READY

LONGEST_START = 60.0
"""Seconds until a child has to be there, on a machine that is busy too."""

LONGEST_SILENCE = 60.0
"""Seconds without a message after which a child is taken for stuck. Its limit of CPU time ends it much earlier, unless
it sleeps or the machine is overloaded."""

MAX_PAYLOAD = 4 << 20
"""Bytes of the longest message that a child may send."""

MAX_JOBS = 500
"""Jobs of one child: what a library leaks ends with it."""

_INTERVAL = 0.05
"""Seconds between two calls of `check` while a child works."""

_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")
"""Variables that a child gets; others may be secrets."""


class ChildDied(Exception):
    """The child has ended, was stuck, or broke the protocol."""


class ChildFailedToStart(Exception):
    """There is no child: no memory, no process, or a broken installation."""


class ChildProcess:
    """One child. Used by one thread at a time, but for `interrupt`."""

    def __init__(self, module: str, *, nice: int = 0) -> None:
        """Start ``python -P -m module``. `nice` is how far it stands back behind the server where there are too few
        processors. Raises ChildFailedToStart."""
        given = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # It finds what this process finds, however that was started.
        given["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                env=given,
                # Out of reach of a terminal's signals. Not in a session of its own: Linux gives each session an equal
                # share of the processors, so a child would have as much as the whole server, however nice it is.
                process_group=0,
            )
        except OSError as error:
            raise ChildFailedToStart(str(error)) from error
        with suppress(OSError):  # where a sandbox forbids it, or the child is gone
            os.setpriority(os.PRIO_PROCESS, self._process.pid, os.getpriority(os.PRIO_PROCESS, 0) + nice)
        # Also when nobody has called `kill` before this is collected, or before the interpreter ends.
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        for descriptor in (self._into, self._out):
            os.set_blocking(descriptor, False)
        self.jobs = 0
        try:
            kind, _ = self.receive(timeout=LONGEST_START)
        except ChildDied as error:
            self.kill()
            raise ChildFailedToStart(f"{module} does not start") from error
        if kind != READY:
            self.kill()
            raise ChildFailedToStart(f"{module} does not say that it is ready")

    def send(self, kind: bytes, payload: bytes = b"", *, check: Callable[[], None] = lambda: None) -> None:
        """Raises ChildDied, and what `check` raises, which is called while the child does not read."""
        rest = memoryview(HEADER.pack(kind, len(payload)) + payload)
        deadline = time.monotonic() + LONGEST_SILENCE
        while rest:
            self._wait(self._into, select.POLLOUT, deadline, check)
            try:
                rest = rest[os.write(self._into, rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChildDied("it has ended") from error

    def receive(
        self, *, check: Callable[[], None] = lambda: None, timeout: float = LONGEST_SILENCE
    ) -> tuple[bytes, bytes]:
        """The child's next message. Raises ChildDied, and what `check` raises, which is called while it works."""
        deadline = time.monotonic() + timeout
        kind, length = HEADER.unpack(self._exactly(HEADER.size, deadline, check))
        if length > MAX_PAYLOAD:
            raise ChildDied("its message is too long")
        payload = self._exactly(length, deadline, check)
        if kind == FAILED:
            raise ChildDied(payload.decode("utf-8", "replace"))
        return kind, payload

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def interrupt(self) -> None:
        """End what it does, from any thread: the one that uses it gets ChildDied."""
        self._process.kill()

    def kill(self) -> None:
        """End it and forget it. May be called twice."""
        self._end()

    def _exactly(self, size: int, deadline: float, check: Callable[[], None]) -> bytes:
        parts: list[bytes] = []
        while size:
            self._wait(self._out, select.POLLIN, deadline, check)
            try:
                part = os.read(self._out, size)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ChildDied("it cannot be read") from error
            if not part:
                raise ChildDied("it has ended")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _wait(self, descriptor: int, event: int, deadline: float, check: Callable[[], None]) -> None:
        waiting = select.poll()
        waiting.register(descriptor, event)
        while not waiting.poll(_INTERVAL * 1000):
            check()
            if time.monotonic() > deadline:
                raise ChildDied("it is stuck")


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the server ends, and not the server
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


class ChildPool:
    """Children of one program. Safe to use from any thread."""

    def __init__(self, module: str, *, idle: int, nice: int = 0) -> None:
        """So many children stay when nothing is to be done; how many there are at once is the caller's to limit.
        `nice` is that of `ChildProcess`."""
        self._module = module
        self._nice = nice
        self._most_idle = idle
        self._lock = threading.Lock()
        self._idle: list[ChildProcess] = []
        self._busy: set[ChildProcess] = set()
        self._closed = threading.Event()

    def start(self) -> None:
        """Have a child ready. Raises ChildFailedToStart."""
        with self.child():
            pass

    def close(self) -> None:
        """End all children: jobs that still run get ChildDied."""
        with self._lock:
            self._closed.set()
            idle, self._idle = self._idle, []
            for child in self._busy:
                child.interrupt()
        for child in idle:
            child.kill()

    @contextmanager
    def child(self) -> Iterator[ChildProcess]:
        """A child for one job. It is ended when the job raises anything. Raises ChildFailedToStart."""
        if self._closed.is_set():
            raise ChildFailedToStart("no more are started")
        child = self._take() or ChildProcess(self._module, nice=self._nice)
        with self._lock:
            self._busy.add(child)
            if self._closed.is_set():
                child.interrupt()
        done = False
        try:
            yield child
            done = True
        finally:
            child.jobs += 1
            with self._lock:
                self._busy.discard(child)
                keep = (
                    done and not self._closed.is_set() and len(self._idle) < self._most_idle and child.jobs < MAX_JOBS
                )
                if keep:
                    self._idle.append(child)
            if not keep:
                child.kill()

    def _take(self) -> ChildProcess | None:
        """One that is idle, and has not been ended from outside meanwhile."""
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None or child.alive:
                return child
            child.kill()
