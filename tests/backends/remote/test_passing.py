"""Embeddings and transcriptions by OpenAI's routes of other servers, which here are ARK itself and llama.cpp's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from llama_server import LlamaServer, llama_server
from running import Running, serve
from written_speech import recording

from ark.app import create_app
from ark.config import Config, ConfigError, ModelConfig
from ark.engines.embedding import EmbeddingJob
from ark.engines.transcription import TranscriptionInfo, TranscriptionJob
from ark.errors import BadRequest, Unavailable
from ark_backends.remote import Remote

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def other() -> Iterator[Running]:
    models = (
        ModelConfig(name="words", task="embedding", backend="hash_embeddings:HashEmbeddings"),
        ModelConfig(name="speech", task="transcription", backend="written_speech:WrittenSpeech"),
    )
    with serve(create_app(Config(models=models))) as server:
        yield server


@pytest.fixture(scope="module")
def embedding_engine(weights: Path) -> Iterator[LlamaServer]:
    with llama_server(weights, slots=1, slot_tokens=512, embeddings=True) as server:
        yield server


def embedding(url: str, **fields: Any) -> ModelConfig:
    engine = {"url": ["http://127.0.0.1:9", url], "open_timeout": 0, **fields}
    return ModelConfig(name="far", task="embedding", backend="remote", engine=engine)


def speech(url: str) -> ModelConfig:
    return ModelConfig(
        name="far", task="transcription", backend="remote", engine={"url": url, "model": "speech", "open_timeout": 0}
    )


async def test_embeddings_are_the_engines_own(other: Running) -> None:
    texts = ["a river", "a boat on a river", "nothing"]
    async with httpx.AsyncClient(base_url=other.url) as client:
        reply = (await client.post("/v1/embeddings", json={"model": "words", "input": texts})).json()
    backend = await Remote.open(embedding(other.url, model="words"))
    try:
        found = await backend.embed(EmbeddingJob(request_id="1", inputs=texts))
        assert backend.status().inputs == 3
        assert backend.status().tokens == reply["usage"]["prompt_tokens"]
        with pytest.raises(BadRequest, match="refuses"):
            await backend.embed(EmbeddingJob(request_id="2", inputs=[[5, 6]], dimensions=3))
    finally:
        await backend.close()
    for one, row in zip(found, reply["data"], strict=True):
        assert np.frombuffer(one.dense, "<f4").tolist() == pytest.approx(row["embedding"])
    assert sum(one.tokens for one in found) == reply["usage"]["prompt_tokens"]
    with pytest.raises(Unavailable):
        await backend.embed(EmbeddingJob(request_id="3", inputs=texts))


async def test_embeddings_of_llama_cpp(embedding_engine: LlamaServer) -> None:
    backend = await Remote.open(embedding(embedding_engine.url))
    try:
        (size,) = backend.dimensions
        first, again = await backend.embed(EmbeddingJob(request_id="1", inputs=["one", [70, 71]]))
    finally:
        await backend.close()
    assert size == 64
    assert np.linalg.norm(np.frombuffer(first.dense, "<f4")) == pytest.approx(1, abs=1e-3)
    assert first.dense != again.dense


@pytest.mark.parametrize("words", [False, True])
async def test_a_transcription_is_the_engines_own(other: Running, words: bool) -> None:
    backend = await Remote.open(speech(other.url))
    try:
        audio = io.BytesIO(recording("0.5 1.25 hello there", "1.5 2 bye"))
        job = TranscriptionJob(request_id="1", audio=audio, language="de", words=words)
        info, *segments = [one async for one in backend.transcribe(job)]
    finally:
        await backend.close()
    assert isinstance(info, TranscriptionInfo)
    assert [(one.start, one.end, one.text.strip()) for one in segments] == [
        (0.5, 1.25, "hello there"),
        (1.5, 2.0, "bye"),
    ]
    assert [[word.word for word in one.words] for one in segments] == (
        [["hello", "there"], ["bye"]] if words else [[], []]
    )


async def test_a_model_that_the_engine_does_not_have(other: Running) -> None:
    with pytest.raises(ConfigError, match="there is no model 'nobody'; there is: words, speech"):
        await Remote.open(embedding(other.url, model="nobody"))
