"""The types of /embeddings.

OpenAI's, and ARK's own fields. Fields that are not listed are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ark.engines import parameters


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /embeddings. None means that the field was not sent, or sent as null."""

    model: parameters.Text
    input: parameters.Input
    """A list is all texts, all ids or all lists of ids: `ark.api.inputs` checks what the type cannot say."""
    encoding_format: parameters.Encoding | None = None
    dimensions: parameters.Dimensions | None = None
    user: str | None = None

    ark_truncate: bool | None = None
    ark_sparse: bool | None = None
    ark_colbert: bool | None = None


Vector = Sequence[float] | str
"""Numbers; or, as base64, the bytes of a row of float32 in little-endian order."""


class EmbeddingObject(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    embedding: Vector
    object: Literal["embedding"] = "embedding"
    ark_sparse: Mapping[int, float] | UnsetType = UNSET
    """Token id to its weight."""
    ark_colbert: Sequence[Vector] | UnsetType = UNSET
    """A vector for each token but the first."""


class EmbeddingUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    """Tokens that the model read, special ones included."""
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True, kw_only=True):
    # First, because `ark.api.embeddings.render` puts the objects in when the rest is written.
    data: Sequence[EmbeddingObject]
    model: str
    usage: EmbeddingUsage
    object: Literal["list"] = "list"
