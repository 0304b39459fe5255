"""Engines that need an environment of their own, and are large: `make test-engines` makes it and runs these tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fixture_models import TINY_CHAT

PLACE = Path(os.environ.get("ARK_VLLM", Path(__file__).parents[2] / ".venv" / "vllm"))

SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of vLLM with the chat model of the tests, or of the one that is running at ``$ARK_VLLM_URL``."""
    if running := os.environ.get("ARK_VLLM_URL"):
        yield running
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(PLACE / "bin" / "vllm"), "serve", str(TINY_CHAT), "--served-model-name", "tiny-chat"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "4096", "--enforce-eager"]
    # On a CPU its blocks have 128 tokens by default, and of less than one nothing is cached.
    command += ["--enable-scale-out", "--enable-prompt-tokens-details", "--block-size", "32"]
    command += ["--structured-outputs-config.backend", "guidance"]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=os.environ | SETTINGS, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 600
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
