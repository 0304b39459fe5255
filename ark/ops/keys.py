"""API keys: kept as SHA-256 digests, compared in constant time, and read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from ark.config import ConfigError, KeyConfig, check_keys, load_keys
from ark.errors import Unauthorized

log = logging.getLogger("ark.keys")

WATCH_INTERVAL = 1.0
"""Seconds between two looks at a file of keys."""

_BLANK = " \t"
"""Stripped from around a header's value, and nothing else: headers are read as Latin-1, where the last byte of a key in
UTF-8 may be a no-break space."""


class Keys:
    """The keys that may call the server. Without any, and without a file of them, it is open."""

    def __init__(self, keys: Sequence[KeyConfig], file: KeysFile | None = None) -> None:
        self._configured = tuple(keys)
        self._file = file
        self._secret = secrets.token_bytes(32)
        self._found: dict[bytes, tuple[bytes, KeyConfig]] = {}
        self.open = False
        """Everyone may call the server."""
        self._use(() if file is None else file.read())

    async def watch(self) -> None:
        """Read the file again whenever it has changed, until cancelled. Without a file, return."""
        while self._file is not None:
            await anyio.sleep(WATCH_INTERVAL)
            await self.refresh(self._file)

    async def refresh(self, file: KeysFile) -> None:
        """Read the file again if it has changed. If something is wrong with it, log that and keep the keys."""
        try:
            found = await anyio.to_thread.run_sync(file.read_change)
        except ConfigError as error:
            log.error("the API keys stay as they were: %s", error)
            return
        except Exception:
            log.exception("the API keys stay as they were: their file cannot be read")
            return
        if found is not None:
            self._use(found)
            log.info("the API keys were read again: there are %d", len(self._found))

    def _use(self, more: Sequence[KeyConfig]) -> None:
        found = {}
        for key in (*self._configured, *more):
            digest = bytes.fromhex(key.sha256)
            found[self._place(digest)] = digest, key
        self._found = found
        self.open = not found and self._file is None

    def _place(self, digest: bytes) -> bytes:
        """The digest's place in the table. It differs in each process, so that the time of a lookup tells nothing about
        a key."""
        return hmac.digest(self._secret, digest, "sha256")

    def check(self, authorization: str | None) -> KeyConfig | None:
        """The key of an ``Authorization`` header, None on an open server. Raises Unauthorized."""
        if self.open:
            return None
        scheme, _, token = (authorization or "").strip(_BLANK).partition(" ")
        token = token.strip(_BLANK)
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized(
                "No API key was sent. Send it as 'Authorization: Bearer KEY'.",
                headers={"www-authenticate": "Bearer"},
            )
        digest = hashlib.sha256(token.encode("latin-1", "replace")).digest()
        known, key = self._found.get(self._place(digest), (b"", None))
        if key is None or not hmac.compare_digest(known, digest):
            raise Unauthorized("The API key is not known here.", headers={"www-authenticate": "Bearer"})
        return key


class KeysFile:
    """A file of keys. It blocks: call it at startup, or in a thread."""

    def __init__(self, path: Path, configured: Sequence[KeyConfig], served: Collection[str]) -> None:
        self._path = path
        self._configured = tuple(configured)
        self._served = served
        self._seen: tuple[int, ...] | None = None

    def read(self) -> tuple[KeyConfig, ...]:
        """The keys in it. Raises ConfigError, also for keys that clash with the configured ones."""
        # Before the file is read: a change meanwhile is then seen the next time.
        self._seen = self._state()
        keys = load_keys(self._path)
        try:
            check_keys([*self._configured, *keys], self._served)
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error}") from error
        return keys

    def read_change(self) -> tuple[KeyConfig, ...] | None:
        """The keys if the file has changed since it was read, else None. Raises ConfigError once for each change."""
        return None if self._state() == self._seen else self.read()

    def _state(self) -> tuple[int, ...] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
