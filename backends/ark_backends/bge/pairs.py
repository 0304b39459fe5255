"""The rows of token ids of a query with each document, made and cut as FlagEmbedding does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ark.config import ConfigError
from ark.engines.rerank import RerankJob
from ark.engines.token_budget import CHUNK_SIZE
from ark.errors import BadRequest
from ark_backends.bge.encoder import Item
from ark_backends.bge.tokens import Reader, Row
from ark_backends.kit.text import valid_text


class PairReader(Reader):
    """The tokenizer of a reranker. Safe to call from any thread."""

    def __init__(self, wrapped: Any, *, max_length: int, rows: int) -> None:
        super().__init__(wrapped, max_length=max_length, rows=rows)
        self._before, self._middle, self._after = self._separators()
        self._room = max_length - len(self._before) - len(self._middle) - len(self._after)
        """Tokens of query and document together."""
        self._longest_query = max_length * 3 // 4
        if self._room <= self._longest_query:
            raise ConfigError(f"context_length = {max_length} leaves no room for a document beside a long query")
        self._typed = "token_type_ids" in wrapped.model_input_names and self._has_types()

    def _separators(self) -> tuple[Row, Row, Row]:
        """The special tokens before a query, between it and a document, and behind that."""
        content: Row = self._core.encode("a", add_special_tokens=False).ids
        whole: Row = self._core.encode("a", "a").ids
        size = len(content)
        places = [start for start in range(len(whole)) if whole[start : start + size] == content]
        if len(places) != 2:
            raise ConfigError("the model's tokenizer does not put its special tokens around two texts")
        first, second = places
        return whole[:first], whole[first + size : second], whole[second + size :]

    def _has_types(self) -> bool:
        """Whether tokens of the document have the type 1. Raises ConfigError for any other types."""
        types: Row = self._core.encode("a", "a").type_ids
        document = len(types) // 2 if not any(types) else types.index(1)
        if any(types) and set(types[document:]) != {1}:
            raise ConfigError("the model's tokenizer has types of tokens that the backend bge does not know")
        return any(types)

    def are_long(self, job: RerankJob) -> bool:
        """Whether `read_pairs` takes long."""
        return sum(len(document) for _, document in job.pairs) + len(job.pairs[0][0]) > CHUNK_SIZE

    def read_pairs(self, job: RerankJob, between: Callable[[], object] = bool) -> list[Item]:
        """The rows of a job: one for each pair, or for each piece of its document. Raises BadRequest.

        `between` is called before each piece of the texts; what it raises ends the call.
        """
        queries = list(dict.fromkeys(query for query, _ in job.pairs))
        own = dict(zip(queries, self._ids(queries, self._longest_query, between), strict=True))
        most = min(job.max_tokens or self.max_length * job.max_chunks, self.max_length * job.max_chunks)
        documents = self._ids([document for _, document in job.pairs], most, between)
        items: list[Item] = []
        for index, ((query, _), ids) in enumerate(zip(job.pairs, documents, strict=True)):
            start = self._before + own[query] + self._middle
            room = self._room - len(own[query])
            if self._oversized and max((*start, *ids)) >= self._rows:
                place = f"documents[{index}]"
                raise BadRequest(f"{place} or its query has a token that the model has no vector for.", param=place)
            for piece in range(min(job.max_chunks, -(-len(ids) // room)) or 1):
                row = start + ids[piece * room : (piece + 1) * room] + self._after
                items.append(Item(row, input=index, second=len(start) if self._typed else 0))
        return items

    def _ids(self, texts: Sequence[str], most: int, between: Callable[[], object]) -> Iterator[Row]:
        """At most so many ids of each text, without special ones."""
        parts = [self._beginning(valid_text(text), most, between) for text in texts]
        return (ids[:most] for ids in self._encode(parts, between, special=False))
