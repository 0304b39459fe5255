"""Other people's clients against ARK as it comes: each must find in the replies what it looks for.

They run in a process of their own: they set up logging, telemetry and event loops as they like, and warn of their own
affairs, which is not what these tests are about.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from ark_conformance.target import Target

SCRIPTS = Path(__file__).parent / "referees"


def run(script: str, target: Target, *arguments: str) -> dict[str, Any]:
    """What a script prints as its last line."""
    program = ["node"] if script.endswith(".mjs") else [sys.executable, "-W", "ignore"]
    quiet = {"LANGSMITH_TRACING": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    finished = subprocess.run(
        [*program, str(SCRIPTS / script), *arguments],
        env={**os.environ, **quiet, "OPENAI_BASE_URL": target.server.base_url, "OPENAI_API_KEY": "sk-own"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def needs_embeddings(target: Target) -> None:
    if target.embedding is None:
        pytest.skip(target.missing()["embedding"])


def test_langchain(ark_target: Target) -> None:
    pytest.importorskip("langchain_openai")
    found = run("langchain_chat.py", ark_target)
    assert "Ada" in found["recalled"]
    assert found["streamed"] == found["whole"]
    assert found["chunks"] > 3
    assert found["usage"]["total_tokens"] == found["usage"]["input_tokens"] + found["usage"]["output_tokens"]
    assert found["stream_usage"]["output_tokens"] == found["usage"]["output_tokens"]
    assert found["calls"] == [{"name": "get_weather", "args": {"city": "Paris"}}]
    assert "21" in found["answer"]
    assert found["structured"]["unit"] in ("celsius", "fahrenheit")
    assert found["finish_reason"] == "stop"


def test_langchain_embeddings_of_texts(ark_target: Target) -> None:
    pytest.importorskip("langchain_openai")
    needs_embeddings(ark_target)
    found = run("langchain_embeddings.py", ark_target, "texts")
    assert found["size"] == 384
    assert found["near"] > found["far"] + 0.2


@pytest.mark.usefixtures("openai_tokenizer")
def test_langchain_embeddings_of_ids(ark_target: Target) -> None:
    """By its default it sends the ids of OpenAI's tokenizer, which ARK reads back."""
    pytest.importorskip("langchain_openai")
    needs_embeddings(ark_target)
    found = run("langchain_embeddings.py", ark_target, "ids")
    assert found["sent"] == "ids"
    assert found["same"]


def test_pydantic_ai(ark_target: Target) -> None:
    pytest.importorskip("pydantic_ai")
    found = run("pydantic_ai_agent.py", ark_target)
    assert found["native"]["unit"] in ("celsius", "fahrenheit")
    assert found["tool"]["unit"] in ("celsius", "fahrenheit")
    assert "".join(found["pieces"]) == found["text"] != ""
    assert found["input_tokens"] > 0
    assert found["weather"] == ["Paris"]


def test_litellm(ark_target: Target) -> None:
    pytest.importorskip("litellm")
    found = run("litellm_calls.py", ark_target)
    assert found["streamed"] == found["whole"] != ""
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]
    assert found["stream_usage"]["completion_tokens"] == found["usage"]["completion_tokens"]
    assert found["calls"] == [["get_weather", {"city": "Paris"}]]
    assert found["errors"] == ["BadRequestError", "NotFoundError", "AuthenticationError"]
    if ark_target.embedding is not None:
        assert found["embedding_size"] == 384


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with npm's openai package, at the version that is pinned beside the script."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node here")
    folder = tmp_path_factory.mktemp("node")
    for name in ("openai_client.mjs", "package.json"):
        shutil.copy(SCRIPTS / name, folder)
    install = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if install.returncode != 0:
        pytest.skip(f"npm cannot install the openai package here: {(install.stdout + install.stderr).strip()[:200]}")
    return folder


def test_the_openai_package_of_npm(ark_target: Target, node_modules: Path) -> None:
    found = run(str(node_modules / "openai_client.mjs"), ark_target, json.dumps(ark_target.embedding))
    assert "Ada" in found["recalled"]
    assert found["streamed"] == found["whole"] != ""
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] + found["usage"]["completion_tokens"]
    assert found["calls"] == [["get_weather", {"city": "Paris"}]]
    assert found["errors"] == ["BadRequestError", "NotFoundError", "AuthenticationError"]
    assert found["models"][0] == ark_target.chat
    if ark_target.embedding is not None:
        assert found["embeddingSize"] == 384
