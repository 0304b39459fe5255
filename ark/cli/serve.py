"""``ark serve``: the server, until it is told to stop."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import anyio
import msgspec

from ark.api.error_body import encode_error
from ark.app import Ark, create_app
from ark.cli.arguments import add_model_arguments, chosen_config
from ark.cli.client import CommandError
from ark.cli.key import digest
from ark.cli.listening import add_listening_arguments, is_local, listening
from ark.cli.usage import Help
from ark.concurrency import is_loading
from ark.config import Config, KeyConfig
from ark.errors import RequestTimeout
from ark.http.request import HEAD_BYTES, host_name
from ark.process import memory

_DESCRIPTION = """\
Serve OpenAI's API, with models from directories or from the hub, with those of ark.toml, or otherwise with three
small ones, which are downloaded at the first start.

    ark serve
    ark serve Qwen/Qwen2.5-0.5B-Instruct
    ark serve ./a-directory ORG/ANOTHER --port 9000
    ark serve --config /etc/ark/ark.toml

At SIGTERM or SIGINT the server answers new requests and /ready with 503, while running replies continue for up to
[server] drain_seconds; a second signal aborts them. Then it writes the sessions and ends with status 0.
"""

BACKLOG = 2048
"""Connections that wait to be accepted: a burst of clients, before the kernel makes them try again later."""
CLOSING = 3
"""Seconds for connections to close once no response is made any more."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="serve models: those of ark.toml, or those named",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    add_model_arguments(parser)
    add_listening_arguments(parser)
    parser.add_argument(
        "--key", metavar="KEY", help="an API key that clients have to send; better store its hash, with 'ark key'"
    )
    parser.add_argument(
        "--root-path",
        metavar="PATH",
        default="",
        help="the path below which a proxy serves ARK, and which the proxy removes",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    memory.relax_gc()
    # Late, for the other commands.
    from hypercorn.utils import LifespanFailureError  # noqa: PLC0415

    # Here, where its problems are told best, and not in the lifespan.
    if args.bind and (args.host is not None or args.port is not None):
        args.command.error("--bind says the host and the port by itself")
    if (args.certfile is None) != (args.keyfile is None):
        # One alone would serve plain HTTP.
        args.command.error("HTTPS needs both --certfile and --keyfile")
    for file in filter(None, (args.certfile, args.keyfile)):
        if not os.access(file, os.R_OK):
            raise CommandError(f"{file} cannot be read")
    config = chosen_config(args)
    if args.key is not None:
        own = KeyConfig(name="command line", sha256=digest(args.key))
        config = msgspec.structs.replace(config, keys=(*config.keys, own))
    try:
        # uvloop takes less of the processor for each token, where it is installed.
        anyio.run(_serve, config, args, backend_options={"use_uvloop": find_spec("uvloop") is not None})
    except LifespanFailureError as error:
        print(f"ark: {error}", file=sys.stderr)
        return 1
    except OverflowError as error:
        print(f"ark: cannot listen: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        hint = "; --port names another port" if error.errno == errno.EADDRINUSE and not args.bind else ""
        print(f"ark: cannot listen: {error.strerror or error}{hint}", file=sys.stderr)
        return 1
    if is_loading():
        # A library that still loads a model would keep the interpreter from ending, or crash in its end.
        logging.shutdown()
        os._exit(0)
    return 0


async def _serve(config: Config, args: argparse.Namespace) -> None:
    import hypercorn.asyncio  # noqa: PLC0415

    from ark.process import hypercorn_patches  # noqa: PLC0415

    hypercorn_patches.apply(encode_error(RequestTimeout("The request's head came too slowly.")))
    server = hypercorn_patches.Config()
    server.bind = listening(args)
    server.certfile, server.keyfile = args.certfile, args.keyfile
    server.root_path = args.root_path.rstrip("/")
    server.graceful_timeout = CLOSING
    server.keep_alive_timeout = server.ssl_handshake_timeout = config.limits.header_timeout
    server.write_timeout = config.limits.write_timeout
    server.backlog = BACKLOG
    server.h11_max_incomplete_size = HEAD_BYTES
    # In ARK's own form.
    server.errorlog = logging.getLogger("ark.server")
    # Its name and version are nobody's business.
    server.include_server_header = False
    app = create_app(config)
    app.after_opening = memory.freeze_gc
    app.hosts = {host_name(bind) for bind in server.bind}
    app.local = all(is_local(bind) for bind in server.bind)
    # Around everything: a signal that comes while the server starts is not lost.
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def stop() -> None:
            await anext(signals)
            await _drain(app, signals)

        await hypercorn.asyncio.serve(app, server, shutdown_trigger=stop)  # type: ignore[arg-type]


async def _drain(app: Ark, signals: AsyncIterator[signal.Signals]) -> None:
    async with anyio.create_task_group() as tasks:

        async def hurry() -> None:
            await anext(signals)
            await app.drain(0)
            tasks.cancel_scope.cancel()

        tasks.start_soon(hurry)
        await app.drain()
        tasks.cancel_scope.cancel()
