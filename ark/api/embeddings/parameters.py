"""What a request asks of a model's vectors, and whether the model can give it."""

from __future__ import annotations

from ark.api.embeddings.schema import EmbeddingRequest
from ark.engines.embedding import EmbeddingBackend
from ark.errors import BadRequest


def dimensions(body: EmbeddingRequest, backend: EmbeddingBackend) -> int:
    """The size of the vectors. Raises BadRequest for one that the model was not trained for, naming those it was."""
    sizes = backend.dimensions
    if body.dimensions is None:
        return sizes[0]
    if body.dimensions not in sizes:
        known = ", ".join(map(str, sizes))
        raise BadRequest(
            f"Invalid 'dimensions': the model '{body.model}' has vectors of {known} numbers, not {body.dimensions}.",
            param="dimensions",
            code="invalid_value",
        )
    return body.dimensions
