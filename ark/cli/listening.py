"""Where a server listens, as the command line says it."""

from __future__ import annotations

import argparse

from ark.http.request import host_name, is_loopback


def add_listening_arguments(parser: argparse.ArgumentParser) -> None:
    """``--host``, ``--port``, ``--bind``, ``--certfile`` and ``--keyfile``."""
    parser.add_argument("--host", help="the address to listen on (127.0.0.1); 0.0.0.0 lets other machines in")
    parser.add_argument("--port", type=_port, help="the port to listen on (8000)")
    parser.add_argument(
        "--bind",
        metavar="ADDRESS",
        action="append",
        help="HOST:PORT, unix:PATH or fd://NUMBER instead of --host and --port; repeatable",
    )
    parser.add_argument("--certfile", metavar="FILE", help="serve HTTPS with this certificate, a PEM file")
    parser.add_argument("--keyfile", metavar="FILE", help="the certificate's private key")


def listening(args: argparse.Namespace) -> list[str]:
    """The addresses, as --bind takes them."""
    return args.bind or [address(args.host or "127.0.0.1", 8000 if args.port is None else args.port)]


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def address(host: str, port: int) -> str:
    """Host and port as --bind takes them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(bind: str) -> bool:
    """Whether what --bind names can be reached from this machine alone."""
    return bind.startswith("unix:") or is_loopback(host_name(bind))
