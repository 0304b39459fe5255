"""A whole embedding backend in one class: texts with the same words have similar vectors.

It hashes words into the components of a vector, as scikit-learn's HashingVectorizer does. It has no model and no
weights and knows no meanings, but finds a text by its words. Serve it with this ``ark.toml``::

    [[models]]
    name = "words"
    task = "embedding"
    backend = "hash_embeddings:HashEmbeddings"
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections import Counter
from collections.abc import Sequence

import anyio.to_thread

from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.embedding import Embedding, EmbeddingJob, EmbeddingStatus
from ark.errors import BadRequest, ContextLengthExceeded, TooManyRequests

VOCABULARY = 2**16
"""Number of token ids. Two words rarely share one."""

_WORD = re.compile(r"\w+|[^\w\s]")


def encode(text: str) -> list[int]:
    """A token for each word and each punctuation mark, ignoring case."""
    return [zlib.crc32(word.encode()) % VOCABULARY for word in _WORD.findall(text.casefold())] or [0]


class HashEmbeddings:
    """Embeds a text by counting its words."""

    capabilities = Capabilities(parameters=frozenset({"dimensions", "ark_truncate", "ark_sparse"}))

    def __init__(self, model: ModelConfig) -> None:
        self.max_length = model.context_length or 8192
        self.dimensions = (512, *model.dimensions)
        self._max_running = model.max_queue
        self._running = 0
        self._inputs = 0
        self._tokens = 0

    @classmethod
    async def open(cls, model: ModelConfig) -> HashEmbeddings:
        return cls(model)

    async def close(self) -> None:
        return

    def status(self) -> EmbeddingStatus:
        return EmbeddingStatus(alive=True, running=self._running, inputs=self._inputs, tokens=self._tokens)

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        if self._running >= self._max_running:
            raise TooManyRequests("Too many requests are waiting for this model.")
        self._running += 1
        try:
            # In a thread, because many long texts would block the event loop.
            embeddings = await anyio.to_thread.run_sync(self._embed, job)
        finally:
            self._running -= 1
        self._inputs += len(embeddings)
        self._tokens += sum(one.tokens for one in embeddings)
        return embeddings

    def _embed(self, job: EmbeddingJob) -> list[Embedding]:
        read = [self._read(given, f"input[{index}]", job.truncate) for index, given in enumerate(job.inputs)]
        return [self._embedding(ids, job) for ids in read]

    def _read(self, given: str | Sequence[int], place: str, truncate: bool) -> Sequence[int]:
        """The token ids of an input, at most `max_length`. Raises BadRequest with the input's place."""
        ids = encode(given) if isinstance(given, str) else given
        for number, token in enumerate(ids):
            if token >= VOCABULARY:
                param = f"{place}[{number}]"
                raise BadRequest(f"Invalid '{param}': there is no token {token}.", param=param, code="invalid_value")
        if len(ids) > self.max_length and not truncate:
            reason = f"Invalid '{place}': {len(ids)} tokens are more than the {self.max_length} that the model reads."
            raise ContextLengthExceeded(reason, param=place)
        return ids[: self.max_length]

    def _embedding(self, ids: Sequence[int], job: EmbeddingJob) -> Embedding:
        size = job.dimensions or self.dimensions[0]
        vector = [0.0] * size
        for token in ids:
            vector[token % size] += 1
        length = math.hypot(*vector)
        return Embedding(
            dense=struct.pack(f"<{size}f", *(value / length for value in vector)),
            tokens=len(ids),
            sparse={token: count / len(ids) for token, count in Counter(ids).items()} if job.sparse else None,
        )
