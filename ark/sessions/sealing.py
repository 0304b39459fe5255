"""Bytes that a client keeps for the server: nobody else can read or change them, or use another key's.

Encrypt, then authenticate, of primitives in Python's standard library, so that the server needs no library for this:

- Two keys come from the secret by BLAKE2b with different personalizations. The secret has to be random: it is not
  stretched.
- A fresh random nonce of 24 bytes for each text, so that one never repeats: at 2^64 texts the odds are below 2^-64.
  Servers that share the secret need not agree on anything.
- The ciphertext is the text XORed with SHAKE-256 over the encryption key and the nonce, both of fixed length: a prefix
  keys a sponge safely, as in KMAC.
- The tag is BLAKE2b, keyed with the authentication key, 32 bytes, over the version, the owner with its length, the
  nonce and the ciphertext. So it binds the form, the owner (the API key's name) and the whole text, none of which can
  be cut or moved into another. It is compared in constant time, before anything is decrypted.

The text is written as URL-safe base64, in one way only. The text's length is not hidden, and an owner may send back an
old text: it is the owner's own. What it holds for one tokenizer it names itself (`ark.api.reasoning`), under the tag.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

_VERSION = b"\x01"
_NONCE = 24
_TAG = 32
_HEAD = len(_VERSION) + _NONCE + _TAG


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
        data = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        nonce, tag, sealed = data[1 : 1 + _NONCE], data[1 + _NONCE : _HEAD], data[_HEAD:]
        genuine = hmac.compare_digest(tag, self._tag(owner, nonce, sealed))
        if not genuine or data[:1] != _VERSION or base64.urlsafe_b64encode(data).decode() != text:
            raise ValueError("this was not sealed here")
        return self._xor(sealed, nonce)

    def _tag(self, owner: str, nonce: bytes, sealed: bytes) -> bytes:
        name = owner.encode("utf-8", "surrogatepass")
        message = _VERSION + len(name).to_bytes(8, "big") + name + nonce + sealed
        return hashlib.blake2b(message, key=self._authentication, digest_size=_TAG).digest()

    def _xor(self, data: bytes, nonce: bytes) -> bytes:
        stream = hashlib.shake_256(self._encryption + nonce).digest(len(data))
        return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
