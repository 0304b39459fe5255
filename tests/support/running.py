"""A real server in this process: hypercorn on a free loopback port, in a thread of its own.

In this process, so that a test can read the engine's own counters while a real client talks to the server.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import hypercorn.asyncio
import hypercorn.config

from ark.app import Ark
from ark.engines.chat import BackendStatus
from ark.models.served import Registry


class Running:
    """A started server."""

    def __init__(self, app: Ark, port: int) -> None:
        self.app = app
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def status(self, model: int = 0) -> BackendStatus:
        """The counters of a model's engine."""
        services = self.app.services
        assert services is not None
        backend = services.registry.models[model].backend
        assert backend is not None
        return backend.status()

    def settle(self, seconds: float = 30.0, *, model: int = 0) -> BackendStatus:
        """Wait until no job of a model runs or waits; returns its counters."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status(model)
            if status.running == 0 and status.waiting == 0:
                return status
            time.sleep(0.005)
        raise TimeoutError(f"jobs are still there: {self.status(model)}")


@contextmanager
def serve(
    app: Ark,
    seconds: float = 180.0,
    *,
    ready: bool = True,
    never: Sequence[str] = (),
    send_buffer: int | None = None,
    port: int = 0,
) -> Iterator[Running]:
    """Serve an app until the block ends. When it begins, every model answers, or with ``ready=False`` may have failed.

    A first start compiles the kernels, which takes its time beside other work. Models named in `never` are not waited
    for. `send_buffer` is the number of bytes that the kernel buffers for a
    client that does not read, instead of some megabytes.
    """
    listening = socket.create_server(("127.0.0.1", port))
    port = listening.getsockname()[1]
    if send_buffer is not None:
        # A connection inherits the buffer of its listening socket.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.accesslog = config.errorlog = None
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    served = hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run_until_complete, args=(served,), daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + seconds
        while app.services is None or not _settled(app.services.registry, never, ready=ready):
            if time.monotonic() > deadline or not thread.is_alive():
                raise TimeoutError("the server did not get ready")
            time.sleep(0.02)
        # Ready may come before the socket listens.
        with _connected(port, deadline):
            pass
        yield Running(app, port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


def _settled(registry: Registry, never: Sequence[str], *, ready: bool) -> bool:
    states = [served.state for served in registry.models if served.name not in never]
    return all(state == "ready" if ready else state != "loading" for state in states)


def _connected(port: int, deadline: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
