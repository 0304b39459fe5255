"""ARK and its peers, each in a process of its own with the same weights and the same room for conversations."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from random_model import SHAPES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

TRANSFORMERS = "from transformers.cli.transformers import main; main()"


@dataclass(frozen=True)
class Setting:
    """The settings of all servers of a scenario."""

    directory: Path
    shape: str
    thoughts: int
    threads: int
    peer: str
    """The Python of the peers' environment."""
    slots: int
    slot_tokens: int
    """Tokens that each of `slots` conversations may hold."""
    only_slots: bool = False
    """The server has no memory for conversations beyond the slots."""
    vllm: str = ""
    """The `bin` of an environment with vLLM."""

    @property
    def kv_bytes(self) -> int:
        """ARK's budget, whose keys and values are float32."""
        size = SHAPES[self.shape]
        head = size["hidden_size"] // size["num_attention_heads"]
        token = 2 * 4 * size["num_hidden_layers"] * size["num_key_value_heads"] * head
        return token * self.slots * self.slot_tokens

    def toml(self) -> str:
        return (
            '[server]\nlog_level = "warning"\n\n'
            f'[[models]]\nname = "bench"\npath = "{self.directory}"\n\n'
            f'[models.engine]\nthreads = {self.threads}\nkv_bytes = {self.kv_bytes}\nquantization = "int8"\n'
        )


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    url: str
    model: str


@contextmanager
def ark(setting: Setting) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "ark.toml").write_text(setting.toml())
        port = _free_port()
        command = [sys.executable, "-m", "hypercorn", "-w", "0", "ark.app:app", "--bind", f"127.0.0.1:{port}"]
        with _started(command, port, "/ready", place):
            yield Running(f"http://127.0.0.1:{port}", "bench")


@contextmanager
def llama(setting: Setting, kind: str = "q8_0") -> Iterator[Running]:
    weights = setting.directory / f"{kind}.gguf"
    making = (
        f"byte_model.save_gguf(Path({str(setting.directory)!r}), Path({str(weights)!r}), {setting.shape!r}, {kind!r}"
    )
    code = f"import byte_model; from pathlib import Path; {making}, thoughts={setting.thoughts})"
    subprocess.run([setting.peer, "-c", code], check=True, env=_environment())
    port = _free_port()
    command = [setting.peer, str(HERE / "llama_server.py"), "--weights", str(weights), "--port", str(port)]
    command += ["--slots", str(setting.slots), "--slot-tokens", str(setting.slot_tokens)]
    command += ["--threads", str(setting.threads)]
    if setting.only_slots:
        command += ["--cache-mib", "0"]
    with _started(command, port, "/health", str(ROOT)):
        yield Running(f"http://127.0.0.1:{port}", "bench")


@contextmanager
def transformers(setting: Setting) -> Iterator[Running]:
    port = _free_port()
    command = [setting.peer, "-c", TRANSFORMERS, "serve", str(setting.directory), "--continuous-batching"]
    command += [
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
        "--log-level",
        "error",
    ]
    with _started(command, port, "/health", str(ROOT)):
        yield Running(f"http://127.0.0.1:{port}", str(setting.directory))


@contextmanager
def vllm(setting: Setting) -> Iterator[Running]:
    """It keeps responses only where it is told to, and a core for itself unless it is told not to."""
    port = _free_port()
    command = [f"{setting.vllm}/vllm", "serve", str(setting.directory), "--served-model-name", "bench"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", str(setting.slot_tokens)]
    command += ["--dtype", "bfloat16", "--enforce-eager", "--enable-prompt-tokens-details"]
    more = {
        "VLLM_ENABLE_RESPONSES_API_STORE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "OMP_NUM_THREADS": str(setting.threads),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    with _started(command, port, "/health", str(setting.directory), more):
        yield Running(f"http://127.0.0.1:{port}", "bench")


SERVERS = {"ark": ark, "llama.cpp": llama, "transformers": transformers, "vllm": vllm}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _environment() -> dict[str, str]:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "backends", HERE.parent)))
    return {**os.environ, "PYTHONPATH": paths}


@contextmanager
def _started(
    command: list[str], port: int, health: str, directory: str, more: dict[str, str] | None = None
) -> Iterator[None]:
    environment = _environment() | (more or {})
    process = subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 900
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}{health}", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} ... did not start")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
