"""Bytes that a client keeps for the server: nobody else can read or change them, or use another key's.

The text is XORed with the output of SHAKE-256 over a secret and a nonce, and authenticated by keyed BLAKE2b over owner,
nonce and ciphertext. Both are in Python's standard library, so that the server needs no library for this alone.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

_NONCE = 16
_TAG = 32
_VERSION = b"\x01"


class Seal:
    """Seals bytes with one secret. Servers with the same secret open each other's."""

    def __init__(self, secret: bytes) -> None:
        self._encryption = hashlib.blake2b(secret, digest_size=32, person=b"ark encryption").digest()
        self._authentication = hashlib.blake2b(secret, digest_size=32, person=b"ark authenticate").digest()

    def close(self, data: bytes, owner: str) -> str:
        """Sealed bytes, as text; two of the same bytes differ."""
        nonce = secrets.token_bytes(_NONCE)
        sealed = self._xor(data, nonce)
        return base64.urlsafe_b64encode(_VERSION + nonce + self._tag(owner, nonce, sealed) + sealed).decode()

    def open(self, text: str, owner: str) -> bytes:
        """What was sealed. Raises ValueError for anything that was not sealed with this secret for this owner."""
        data = base64.urlsafe_b64decode(text.encode("ascii"))
        nonce, tag = data[1 : 1 + _NONCE], data[1 + _NONCE : 1 + _NONCE + _TAG]
        sealed = data[1 + _NONCE + _TAG :]
        if data[:1] != _VERSION or not hmac.compare_digest(tag, self._tag(owner, nonce, sealed)):
            raise ValueError("this was not sealed here")
        return self._xor(sealed, nonce)

    def _tag(self, owner: str, nonce: bytes, sealed: bytes) -> bytes:
        name = owner.encode("utf-8", "surrogatepass")
        message = len(name).to_bytes(8, "big") + name + nonce + sealed
        return hashlib.blake2b(message, key=self._authentication, digest_size=_TAG).digest()

    def _xor(self, data: bytes, nonce: bytes) -> bytes:
        stream = hashlib.shake_256(self._encryption + nonce).digest(len(data))
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
