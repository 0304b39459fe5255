"""Small random Whispers in directories, and backends over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_whisper import save_tiny_whisper

from ark.config import ModelConfig

ENGINE = {"device": "cpu", "compute_type": "int8", "workers": 1, "threads": 1, "beam_size": 1, "max_new_tokens": 6}
"""What makes a random model quick: it would speak without end."""


def configured(path: Path | str, **more: Any) -> ModelConfig:
    engine = ENGINE | more.pop("engine", {})
    return ModelConfig(name="test", task="transcription", path=str(path), engine=engine, **more)


@pytest.fixture(scope="session")
def english_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of transformers."""
    path = tmp_path_factory.mktemp("english")
    save_tiny_whisper(path)
    return path


@pytest.fixture(scope="session")
def english(english_source: Path) -> Path:
    """The same, converted."""
    from ark_backends.whisper.conversion import converted

    return converted(english_source)


@pytest.fixture(scope="session")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ark_backends.whisper.conversion import converted

    path = tmp_path_factory.mktemp("multilingual")
    save_tiny_whisper(path, languages=("en", "de", "fr"))
    return converted(path)


Opened = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def opened() -> Opened:
    """A backend from a directory, closed behind the test."""
    from ark_backends.whisper import Whisper

    @asynccontextmanager
    async def open_model(path: Path, **more: Any) -> AsyncIterator[Whisper]:
        backend = await Whisper.open(configured(path, **more))
        try:
            yield backend
        finally:
            await backend.close()

    return open_model
