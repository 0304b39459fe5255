"""``ark key``: make an API key, or the hash of one."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import json
import secrets
import sys
from typing import Any

from ark.cli.usage import Help

PREFIX = "ark-"
KEY_BYTES = 32
"""Random bytes of a key. It cannot be guessed, so a plain hash of it reveals nothing."""

_DESCRIPTION = """\
Make an API key. The key is shown once, on standard error. The table that makes the server accept it goes to standard
output, with the key's SHA-256 instead of the key. So this adds a key to a file and shows it:

    ark key team >> keys.toml

The file is [server] keys_file of the configuration. ark.toml itself may also have such tables. A table may also have
models = [...], requests_per_minute, tokens_per_minute and concurrent_requests.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "key",
        help="make an API key, or the hash of one",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="the key's name in the log, and the owner of its sessions"
    )
    parser.add_argument(
        "--hash", action="store_true", help="read an existing key, and print its table, or without NAME only its hash"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.name is None and not args.hash:
        args.command.error("the key needs a name")
    if args.name is not None and (not args.name.strip() or not args.name.isprintable()):
        args.command.error("the name has to be text of one line")
    if args.hash:
        key = _read_key()
        # HTTP strips blanks around a header's value.
        if not key or key != key.strip():
            args.command.error("there is no key, or there are blanks around it")
    else:
        key = new_key()
        print(f"The key, which is not kept anywhere: {key}", file=sys.stderr)
    print(digest(key) if args.name is None else table(args.name, digest(key)))
    return 0


def new_key() -> str:
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest(key: str) -> str:
    """The hex SHA-256 of a key's UTF-8, which the configuration keeps."""
    return hashlib.sha256(key.encode()).hexdigest()


def table(name: str, sha256: str) -> str:
    # For printable text JSON's strings are TOML's.
    return f'[[keys]]\nname = {json.dumps(name, ensure_ascii=False)}\nsha256 = "{sha256}"'


def _read_key() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Key: ")
    return sys.stdin.readline().rstrip("\r\n")
