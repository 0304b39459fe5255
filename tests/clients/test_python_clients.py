"""Other people's clients from PyPI against ARK: each must find in the replies what it looks for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from client_programs import run
from openai_tokenizer import save_openai_tokenizer
from running import Running

PROGRAMS = Path(__file__).parent / "python"


def found_by(server: Running, program: str, *arguments: str) -> Any:
    return run(server, [sys.executable, "-W", "ignore", PROGRAMS / program, *arguments])


@pytest.mark.parametrize(("api", "finish"), [("chat", "stop"), ("responses", "completed")])
def test_langchain(server: Running, api: str, finish: str) -> None:
    found = found_by(server, "langchain_chat.py", api)
    assert "Ada" in found["recalled"]
    assert found["streamed"] == found["whole"]
    assert found["chunks"] > 3
    assert found["usage"]["total_tokens"] == found["usage"]["input_tokens"] + found["usage"]["output_tokens"]
    assert found["stream_usage"]["output_tokens"] == found["usage"]["output_tokens"]
    assert found["calls"] == [{"name": "get_weather", "args": {"city": "Paris"}}]
    assert "21" in found["answer"]
    assert found["structured"]["unit"] in ("celsius", "fahrenheit")
    assert found["finish_reason"] == finish


def test_langchain_embeddings_of_texts(server: Running) -> None:
    found = found_by(server, "langchain_embeddings.py", "texts")
    assert found["size"] == 384
    assert found["near"] > found["far"] + 0.2


def test_langchain_embeddings_of_ids(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its default it sends the ids of OpenAI's tokenizer, which ARK reads back."""
    save_openai_tokenizer(tmp_path)
    # For the server in this process, and for the client's.
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    found = found_by(server, "langchain_embeddings.py", "ids")
    assert found["sent"] == "ids"
    assert found["same"]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_pydantic_ai(server: Running, api: str) -> None:
    found = found_by(server, "pydantic_ai_agent.py", api)
    assert found["native"]["unit"] in ("celsius", "fahrenheit")
    assert found["tool"]["unit"] in ("celsius", "fahrenheit")
    assert "".join(found["pieces"]) == found["text"] != ""
    assert found["input_tokens"] > 0
    assert found["weather"] == ["Paris"]


def test_litellm(server: Running) -> None:
    found = found_by(server, "litellm_calls.py")
    assert found["streamed"] == found["whole"] != ""
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]
    assert found["stream_usage"]["completion_tokens"] == found["usage"]["completion_tokens"]
    assert found["calls"] == [["get_weather", {"city": "Paris"}]]
    assert found["errors"] == ["BadRequestError", "NotFoundError", "AuthenticationError"]
    assert found["embedding_size"] == 384
