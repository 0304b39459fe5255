"""Helpers that keep tests of embeddings short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy

from ark.config import ModelConfig
from ark.engines.embedding import Embedding, EmbeddingJob


def configured(path: Path, **more: Any) -> ModelConfig:
    engine = {"device": "cpu", "threads": 1, **more.pop("engine", {})}
    return ModelConfig(**{"name": "test", "task": "embedding", "path": str(path), "engine": engine, **more})


def job(*inputs: Any, **more: Any) -> EmbeddingJob:
    return EmbeddingJob(request_id="test", inputs=inputs, **more)


def vectors(embeddings: Any) -> Any:
    """The dense vectors, (inputs, size)."""
    return numpy.stack([vector(one.dense) for one in embeddings])


def vector(data: bytes) -> Any:
    return numpy.frombuffer(data, "<f4")


def colbert(embedding: Embedding) -> Any:
    """The ColBERT vectors of one input, (tokens - 1, size)."""
    assert embedding.colbert is not None
    return numpy.stack([vector(data) for data in embedding.colbert])
