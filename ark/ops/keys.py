"""API keys: kept as SHA-256 digests, compared in constant time, some of them in a file that may change."""

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
"""What may stand around a header's value. More is not stripped: a header is read as Latin-1, where the last byte of a
key in UTF-8 may be a no-break space."""


class Keys:
    """The keys that may call the server. Without any, and without a file of them, the server is open."""

    def __init__(self, keys: Sequence[KeyConfig], file: KeysFile | None = None) -> None:
        self._configured = tuple(keys)
        self._file = file
        self._secret = secrets.token_bytes(32)
        self._found: dict[bytes, tuple[bytes, KeyConfig]] = {}
        self._use(() if file is None else file.read())

    @property
    def open(self) -> bool:
        return not self._found and self._file is None

    async def watch(self) -> None:
        """Read the file again whenever it has changed; until cancelled. Without a file, returns."""
        while self._file is not None:
            await anyio.sleep(WATCH_INTERVAL)
            await self.refresh(self._file)

    async def refresh(self, file: KeysFile) -> None:
        """Read the file again if it has changed. What is wrong with it is logged, and the keys stay as they were."""
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

    def _place(self, digest: bytes) -> bytes:
        """Where a digest is looked up. Of this process alone, so that the time a lookup takes says nothing of a key."""
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
    """A file of keys, and what is known of it. Reads it where it is called: at startup, or in a thread."""

    def __init__(self, path: Path, configured: Sequence[KeyConfig], served: Collection[str]) -> None:
        self._path = path
        self._configured = tuple(configured)
        self._served = served
        self._seen: tuple[int, ...] | None = None

    def read(self) -> tuple[KeyConfig, ...]:
        """The keys in it. Raises ConfigError, also where they do not go with the configured ones."""
        # Looked at first: of a file that changes while it is read, the end is read the next time.
        self._seen = self._state()
        keys = load_keys(self._path)
        try:
            check_keys([*self._configured, *keys], self._served)
        except ConfigError as error:
            raise ConfigError(f"{self._path}: {error}") from error
        return keys

    def read_change(self) -> tuple[KeyConfig, ...] | None:
        """The keys in it if it is not what it was when it was last looked at, as they are or broken. Raises ConfigError
        once for each change."""
        return None if self._state() == self._seen else self.read()

    def _state(self) -> tuple[int, ...] | None:
        try:
            state = self._path.stat()
        except OSError:
            return None
        return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
