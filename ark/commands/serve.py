"""``ark serve``: the server, until it is told to stop."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio

from ark.app import Ark, create_app
from ark.config import Config, load_config

_DESCRIPTION = """\
Serve OpenAI's API with hypercorn, in this process.

At SIGTERM or SIGINT new requests and /ready get 503, while replies that are on their way go on for [server]
drain_seconds; a second signal breaks them off. Then the sessions are written, and the server ends with status 0.
"""

CLOSING = 3
"""Seconds for connections to close once no reply is made any more."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve the models of ark.toml",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="the ark.toml; otherwise $ARK_CONFIG, or the one that is here")
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        action="append",
        help="HOST:PORT, unix:PATH or fd://NUMBER, more than once if wanted (127.0.0.1:8000)",
    )
    parser.add_argument("--certfile", metavar="FILE", help="serve HTTPS with this certificate, a PEM file")
    parser.add_argument("--keyfile", metavar="FILE", help="the certificate's private key")
    parser.add_argument("--root-path", metavar="PATH", default="", help="what a proxy has cut off the path")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Late, for the other commands.
    from hypercorn.utils import LifespanFailureError  # noqa: PLC0415

    # Here, where its problems are told best, and not in the lifespan.
    config = load_config(args.config)
    try:
        anyio.run(_serve, config, args)
    except LifespanFailureError as error:
        print(f"ark: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"ark: cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(config: Config, args: argparse.Namespace) -> None:
    import hypercorn.asyncio  # noqa: PLC0415
    import hypercorn.config  # noqa: PLC0415

    class ServerConfig(hypercorn.config.Config):
        def create_sockets(self) -> hypercorn.config.Sockets:
            sockets = super().create_sockets()
            for listening in (*sockets.secure_sockets, *sockets.insecure_sockets):
                _set_user_timeout(listening, config.limits.write_timeout)
            return sockets

    server = ServerConfig()
    server.bind = args.bind or ["127.0.0.1:8000"]
    server.certfile, server.keyfile = args.certfile, args.keyfile
    server.root_path = args.root_path.rstrip("/")
    server.graceful_timeout = CLOSING
    app = create_app(config)
    # Around everything: a signal that comes while the server starts is not lost.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def told_to_stop() -> None:
            await anext(signals)
            await _drain(app, signals)

        await hypercorn.asyncio.serve(app, server, shutdown_trigger=told_to_stop)  # type: ignore[arg-type]


async def _drain(app: Ark, signals: AsyncIterator[signal.Signals]) -> None:
    async with anyio.create_task_group() as tasks:

        async def hurry() -> None:
            await anext(signals)
            await app.drain(0)
            tasks.cancel_scope.cancel()

        tasks.start_soon(hurry)
        await app.drain()
        tasks.cancel_scope.cancel()


def _set_user_timeout(listening: socket.socket, seconds: float) -> None:
    """Have the kernel end connections whose client takes nothing of what is sent: ARK gives its reply up, but what is
    buffered would keep the connection open. A connection has what its listening socket has."""
    if listening.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
