"""An embedding model that runs in engines elsewhere."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec

from ark.config import ConfigError
from ark.engines.backend import Capabilities
from ark.engines.embedding import Embedding, EmbeddingBackend, EmbeddingJob, EmbeddingStatus
from ark_backends.remote.api import posted
from ark_backends.remote.client import EngineDown
from ark_backends.remote.passing import PassingBackend

PATH = "/v1/embeddings"


class _Row(msgspec.Struct):
    embedding: str | list[float]
    index: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0


class _Reply(msgspec.Struct):
    data: list[_Row]
    usage: _Usage = msgspec.field(default_factory=_Usage)


_decode = msgspec.json.Decoder(_Reply).decode


class RemoteEmbedding(PassingBackend):
    """`ark.engines.embedding.EmbeddingBackend` over the engines of a list of URLs."""

    max_length = 0
    dimensions: Sequence[int] = ()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(parameters=frozenset({"dimensions"}))

    def status(self) -> EmbeddingStatus:
        return EmbeddingStatus(**self._counted())

    def _describe(self, http: httpx2.Client, entry: Any) -> None:
        found = posted(http, PATH, self._body(["x"]))
        own = len(_vector(msgspec.convert(found, _Reply).data[0])) // 4
        if self.dimensions and self.dimensions[0] != own:
            raise ConfigError(f"its vectors have {own} numbers, and those of the first engine {self.dimensions[0]}")
        self.dimensions = (own, *(size for size in self._model.dimensions if size < own))
        self.max_length = self._model.context_length or int(entry.get("max_model_len") or 0) or 2**31 - 1

    def _body(self, inputs: Sequence[Any], dimensions: int | None = None) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._at_engine, "input": inputs, "encoding_format": "base64"}
        return body if dimensions is None else body | {"dimensions": dimensions}

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        size = job.dimensions or self.dimensions[0]
        body = self._body([*job.inputs], None if size == self.dimensions[0] else size)

        async def send(url: str) -> Sequence[Embedding]:
            return _read(await self._clients.post(url + PATH, body), len(job.inputs), size)

        embeddings = await self._passed(job.request_id, send)
        tokens = sum(embedding.tokens for embedding in embeddings)
        self._counters.update(batches=1, inputs=len(embeddings), tokens=tokens)
        return embeddings


def _read(data: bytes, count: int, size: int) -> list[Embedding]:
    try:
        reply = _decode(data)
        rows = [_vector(row) for row in sorted(reply.data, key=lambda row: row.index)]
    except (msgspec.MsgspecError, ValueError) as error:
        raise EngineDown(f"it sends embeddings that cannot be read: {error}") from error
    if len(rows) != count or any(len(row) != 4 * size for row in rows):
        raise EngineDown(f"it sends other embeddings than {count} of {size} numbers")
    # It tells only those of all inputs.
    each, rest = divmod(reply.usage.prompt_tokens, count)
    return [Embedding(dense=row, tokens=each + (number < rest)) for number, row in enumerate(rows)]


def _vector(row: _Row) -> bytes:
    """Some engines take no notice of the format that is asked for."""
    if isinstance(row.embedding, str):
        return base64.b64decode(row.embedding, validate=True)
    return struct.pack(f"<{len(row.embedding)}f", *row.embedding)


if TYPE_CHECKING:
    _conforms: type[EmbeddingBackend] = RemoteEmbedding
