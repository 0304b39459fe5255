"""What a request asks of a model's vectors, and whether the model can give it."""

from __future__ import annotations

from ark.api.embeddings.schema import EmbeddingRequest
from ark.engines.embedding import EmbeddingBackend
from ark.errors import invalid_value


def dimensions(body: EmbeddingRequest, backend: EmbeddingBackend) -> int:
    """The size of the vectors. Raises BadRequest for one that the model was not trained for, naming those it was."""
    sizes = backend.dimensions
    if body.dimensions is None:
        return sizes[0]
    if body.dimensions not in sizes:
        known = ", ".join(map(str, sizes))
        reason = f"the model '{body.model}' has vectors of {known} numbers, not {body.dimensions}."
        raise invalid_value("dimensions", reason)
    return body.dimensions
