"""API keys: kept as SHA-256 digests, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from ark.config import KeyConfig
from ark.errors import Unauthorized

_BLANK = " \t"
"""What may stand around a header's value. More is not stripped: a header is read as Latin-1, where the last byte of a
key in UTF-8 may be a no-break space."""


class Keys:
    """The keys that may call the server. Without any, the server is open."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._digests = [(bytes.fromhex(key.sha256), key) for key in keys]

    @property
    def open(self) -> bool:
        return not self._digests

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
        found: KeyConfig | None = None
        # Every key is compared, found or not, so that the time says nothing about the keys.
        for known, key in self._digests:
            if hmac.compare_digest(known, digest):
                found = key
        if found is None:
            raise Unauthorized("The API key is not known here.", headers={"www-authenticate": "Bearer"})
        return found


def may_use(key: KeyConfig | None, model: str) -> bool:
    """Whether a key may use a served model."""
    return key is None or key.models is None or model in key.models
