"""``ark check --security``: what a configuration leaves open."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from ark.cli.arguments import chosen_config
from ark.cli.listening import is_local, listening
from ark.config import Config
from ark.http.request import ANY
from ark.ops.keys import Keys


def run(args: argparse.Namespace) -> int:
    config = chosen_config(args)
    found = list(left_open(config, listening(args), tls=args.certfile is not None))
    for line in found:
        print(f"open: {line}")
    print(f"{len(found)} to close" if found else "nothing is left open that can be seen from here")
    return 1 if found else 0


def left_open(config: Config, binds: Sequence[str], *, tls: bool) -> Iterator[str]:
    """What could be closed, each as what is open and what closes it. Raises ConfigError, as the server would."""
    public = [bind for bind in binds if not is_local(bind)]
    keys = Keys(config.keys, config.server.keys_file)
    if public:
        yield from _network(config, ", ".join(public), keyless=keys.open, tls=tls)
    yield from _pages(config, keyless=keys.open)
    if not keys.open:
        yield from _shared(config, tls=tls)
    yield from _files(config)


def _network(config: Config, addresses: str, *, keyless: bool, tls: bool) -> Iterator[str]:
    if keyless:
        yield (
            f"everyone who reaches {addresses} may use the models, read and delete all sessions, and read /metrics: "
            "make a key with 'ark key'"
        )
    if not tls:
        yield (
            f"keys, cookies and conversations cross the network of {addresses} in plain text: give --certfile and "
            "--keyfile, or listen on 127.0.0.1 behind a proxy that has a certificate"
        )
    if os.geteuid() == 0:
        yield "the server runs as root, and is reached from other machines: run it as a user of its own"


def _pages(config: Config, *, keyless: bool) -> Iterator[str]:
    """What pages in a browser may do."""
    server = config.server
    if keyless and ANY in server.allowed_hosts:
        yield f"any web page can use the server by a name of its own: name hosts in [server] allowed_hosts, not {ANY!r}"
    if server.cors is not None and ANY in server.cors.origins:
        who = "anybody's browser that reaches the server" if keyless else "a browser that has a key"
        yield f"pages of every origin may use the server through {who}: name them in [server.cors] origins"


def _shared(config: Config, *, tls: bool) -> Iterator[str]:
    """What a server with keys is for: clients that others must not become, or push out."""
    sessions, limits = config.sessions, config.limits
    if sessions.enabled and not sessions.cookie_http_only:
        yield "scripts of a page can read the cookie of its session: set [sessions] cookie_http_only = true"
    if sessions.enabled and not sessions.cookie_secure:
        where = "" if tls else ", unless no client ever comes by HTTPS"
        yield f"browsers send the cookie by plain HTTP too: set [sessions] cookie_secure = true{where}"
    if sessions.enabled and sessions.cookie_domain is not None:
        yield f"every host below {sessions.cookie_domain} gets the cookie: leave [sessions] cookie_domain out"
    if limits.key_concurrent_requests == 0:
        yield "one key may take every place: leave [limits] key_concurrent_requests out, or set it"
    for own in config.keys:
        if own.concurrent_requests == 0:
            yield f"the key {own.name!r} may take every place: leave its concurrent_requests out, or set it"


def _files(config: Config) -> Iterator[str]:
    """Files that other users of the machine can read or replace."""
    for what, text in (("sessions", config.sessions.path), ("keys", config.server.keys_file)):
        if text is None:
            continue
        path = Path(text).expanduser()
        for file in (path, *(path.with_name(path.name + more) for more in ("-wal", "-shm"))):
            if file.exists() and (mode := stat.S_IMODE(file.stat().st_mode)) & 0o077:
                yield f"other users may open the {what} in {file} (mode {mode:03o}): chmod 600 {file}"
        folder = path.absolute().parent
        if folder.is_dir() and (mode := stat.S_IMODE(folder.stat().st_mode)) & 0o002 and not mode & stat.S_ISVTX:
            yield f"other users may replace the {what} in {folder} (mode {mode:03o}): chmod o-w {folder}"
