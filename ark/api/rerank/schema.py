"""The types of /rerank, which are Cohere's and Jina's, and of /score, which are vLLM's.

Fields that are not listed are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ark.engines import parameters


class Document(msgspec.Struct, frozen=True, kw_only=True):
    text: str


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /rerank. None means that the field was not sent, or sent as null."""

    model: parameters.Text
    query: parameters.Text
    documents: Annotated[list[str | Document], Meta(min_length=1)]
    top_n: parameters.TokenCount | None = None
    return_documents: bool | None = None
    max_tokens_per_doc: parameters.TokenCount | None = None
    max_chunks_per_doc: parameters.Chunks | None = None
    rank_fields: list[str] | None = None
    raw_scores: bool | None = None


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /score. None means that the field was not sent, or sent as null."""

    model: parameters.Text
    text_1: parameters.Text | Annotated[list[parameters.Text], Meta(min_length=1)]
    text_2: str | parameters.Texts
    raw_scores: bool | None = None


class RerankUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    """Tokens that the model read, of the query with each document, special ones included."""
    total_tokens: int


class RerankResult(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    """Of the document in the request."""
    relevance_score: float
    """0 to 1; any number with `raw_scores`."""
    document: Document | UnsetType = UNSET
    """Where the request asks for it."""


class RerankReply(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    results: Sequence[RerankResult]
    """The best first."""
    model: str
    usage: RerankUsage
    object: Literal["list"] = "list"


class ScoreObject(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    score: float
    """0 to 1; any number with `raw_scores`."""
    object: Literal["score"] = "score"


class ScoreList(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created: int
    data: Sequence[ScoreObject]
    model: str
    usage: RerankUsage
    object: Literal["list"] = "list"
