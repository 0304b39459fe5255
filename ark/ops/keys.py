"""API keys: kept as SHA-256 digests, compared in constant time, and read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from ark.config import ConfigError, KeyConfig, check_keys
from ark.config_file import load_keys
from ark.errors import Unauthorized

log = logging.getLogger("ark.keys")

WATCH_INTERVAL = 1.0
"""Seconds between two looks at the file of keys."""

_BLANK = " \t"
"""Stripped from around a header's value, and nothing else: headers are read as Latin-1, where the last byte of a key in
UTF-8 may be a no-break space."""


def sent_key(headers: Mapping[bytes, bytes]) -> str:
    """The ``Authorization`` header, or what Anthropic's clients send in its place."""
    sent = headers.get(b"authorization", b"").decode("latin-1")
    if not sent and (key := headers.get(b"x-api-key", b"").decode("latin-1").strip(_BLANK)):
        return key if key.lower().startswith("bearer ") else f"Bearer {key}"
    return sent


class Keys:
    """The keys that may call the server. Without any, and without a file of them, it is open."""

    def __init__(self, configured: Sequence[KeyConfig], file: str | None = None, served: Collection[str] = ()) -> None:
        """`served` are the models that keys may name. Reads the file; raises ConfigError if it cannot be used."""
        self._configured = tuple(configured)
        self._file = None if file is None else Path(file).expanduser()
        self._served = served
        self._state: tuple[int, ...] | None = None
        self._secret = secrets.token_bytes(32)
        self._found: dict[bytes, tuple[bytes, KeyConfig]] = {}
        self._use(() if self._file is None else self._read(self._file))

    async def watch(self) -> None:
        """Read the file again whenever it has changed, until cancelled. Without a file, return."""
        while self._file is not None:
            await anyio.sleep(WATCH_INTERVAL)
            try:
                found = await anyio.to_thread.run_sync(self._read_change, self._file)
            except ConfigError as error:
                log.error("the API keys stay as they were: %s", error)
            except Exception:
                log.exception("the API keys stay as they were: their file cannot be read")
            else:
                if found is not None:
                    self._use(found)
                    log.info("the API keys were read again: there are %d", len(self._found))

    def check(self, authorization: str | None) -> KeyConfig | None:
        """The key of an ``Authorization`` header, None on an open server. Raises Unauthorized."""
        if self.open:
            return None
        scheme, _, token = (authorization or "").strip(_BLANK).partition(" ")
        token = token.strip(_BLANK)
        if scheme.lower() != "bearer" or not token:
            message = "No API key was sent. Send it as 'Authorization: Bearer KEY'."
            raise Unauthorized(message, headers={"www-authenticate": "Bearer"})
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        known, key = self._found.get(self._place(digest), (b"", None))
        if key is None or not hmac.compare_digest(known, digest):
            raise Unauthorized("The API key is not known here.", headers={"www-authenticate": "Bearer"})
        return key

    def _use(self, more: Sequence[KeyConfig]) -> None:
        digests = [(bytes.fromhex(key.sha256), key) for key in (*self._configured, *more)]
        self._found = {self._place(digest): (digest, key) for digest, key in digests}
        self.open = not self._found and self._file is None
        """Everyone may call the server."""

    def _place(self, digest: bytes) -> bytes:
        """The digest's place in the table. It differs in each process, so that the time of a lookup tells nothing about
        a key."""
        return hmac.digest(self._secret, digest, "sha256")

    def _read(self, file: Path) -> tuple[KeyConfig, ...]:
        """The keys in the file. Raises ConfigError, also for keys that clash with the configured ones."""
        # Before the file is read: a change meanwhile is then seen the next time.
        self._state = _state(file)
        keys = load_keys(file)
        try:
            check_keys([*self._configured, *keys], self._served)
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from error
        return keys

    def _read_change(self, file: Path) -> tuple[KeyConfig, ...] | None:
        """The keys if the file has changed since it was read, else None. Raises ConfigError once for each change."""
        return None if _state(file) == self._state else self._read(file)


def _state(file: Path) -> tuple[int, ...] | None:
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
