"""Real engines elsewhere: llama.cpp's server with a small random model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_server import LlamaServer, llama_server
from tiny_gguf import CONTEXT, save_tiny_gguf


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote") / "tiny.gguf"
    save_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def engine(weights: Path) -> Iterator[LlamaServer]:
    with llama_server(weights, slots=4, slot_tokens=CONTEXT) as server:
        yield server


@pytest.fixture
def two_engines(weights: Path) -> Iterator[tuple[LlamaServer, LlamaServer]]:
    """Two with the same model, of which a test may kill one."""
    with llama_server(weights, slot_tokens=CONTEXT) as one, llama_server(weights, slot_tokens=CONTEXT) as other:
        yield one, other
