"""The reply of /embeddings."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence
from typing import cast

import msgspec
from msgspec import UNSET

from ark.api.embeddings.schema import EmbeddingList, EmbeddingObject, EmbeddingUsage, Vector
from ark.engines.embedding import Embedding


def size(embeddings: Sequence[Embedding]) -> int:
    """Bytes of all vectors: how much work the reply is."""
    return sum(len(one.dense) + sum(map(len, one.colbert or ())) + 12 * len(one.sparse or ()) for one in embeddings)


def tokens(embeddings: Sequence[Embedding]) -> int:
    """Tokens that the model read."""
    return sum(one.tokens for one in embeddings)


def reply(name: str, embeddings: Sequence[Embedding], *, base64: bool) -> bytes:
    """The reply's JSON.

    Each vector is encoded by itself: one call for the whole of a large reply would hold Python's lock, and the event
    loop with it, until its end.
    """
    used = tokens(embeddings)
    usage = EmbeddingUsage(prompt_tokens=used, total_tokens=used)
    before, after = msgspec.json.encode(EmbeddingList(data=(), model=name, usage=usage)).split(b"[]", 1)
    objects = [msgspec.json.encode(_object(index, one, base64)) for index, one in enumerate(embeddings)]
    return b"".join((before, b"[", b",".join(objects), b"]", after))


def _object(index: int, embedding: Embedding, base64: bool) -> EmbeddingObject:
    sparse, colbert = embedding.sparse, embedding.colbert
    return EmbeddingObject(
        index=index,
        embedding=_vector(embedding.dense, base64),
        ark_sparse=UNSET if sparse is None else sparse,
        ark_colbert=UNSET if colbert is None else [_vector(row, base64) for row in colbert],
    )


def _vector(row: bytes, base64: bool) -> Vector:
    """A row of little-endian float32, in the format that was asked for, as JSON already."""
    if base64:
        encoded = b'"' + binascii.b2a_base64(row, newline=False) + b'"'
    else:
        encoded = msgspec.json.encode(struct.unpack(f"<{len(row) // 4}f", row))
    return cast(Vector, msgspec.Raw(encoded))
