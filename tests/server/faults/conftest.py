"""The servers of these tests: one that only echoes, and one with every kind of model that may go wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import faulty_torch
import pytest
from process import ECHO_TOML
from serving import Server, serving
from tiny_model import save_tiny_llama

CHUNK = 64
"""Prompt tokens that the engine of `tiny` computes at once."""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The echo, as fast as it can, and as `slow` 20 characters a second; small limits for slow bodies."""
    slow = ECHO_TOML.replace('"echo"', '"slow"', 1) + "engine = { tokens_per_second = 20 }\n"
    limits = "[limits]\nheader_timeout = 6.0\nbody_timeout = 1.0\nbody_total_timeout = 2.0\n"
    with serving(tmp_path_factory.mktemp("echo"), limits + ECHO_TOML + slow) as server:
        yield server


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Directories of the models of `torch`, by name; those of `faulty_torch` among them take faults."""
    root = tmp_path_factory.mktemp("models")
    good = root / "tiny"
    save_tiny_llama(good, context_length=4096)
    found = {"tiny": good}
    for name in ("fragile", "doomed", "hopeless", *DAMAGE):
        found[name] = root / name
        shutil.copytree(good, found[name])
    for name, damage in DAMAGE.items():
        damage(found[name])
    return found


@pytest.fixture(scope="session")
def torch(models: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`tiny`, which computes one job at a time; `fragile`, `doomed` and `hopeless`, which a test may break; models of
    broken directories; and the echo."""
    tables = [ECHO_TOML]
    for name, path in models.items():
        backend = "torch_chat" if name in DAMAGE else "faulty_torch:FaultyChat"
        running = 1 if name == "tiny" else 4
        engine = f'{{ dtype = "float32", threads = 1, prefill_chunk = {CHUNK}, max_running = {running} }}'
        tables.append(f'[[models]]\nname = "{name}"\nbackend = "{backend}"\npath = "{path}"\nengine = {engine}\n')
    with serving(tmp_path_factory.mktemp("torch"), "\n".join(tables), ready=False) as server:
        try:
            yield server
        finally:
            for name, path in models.items():
                if name not in DAMAGE:
                    faulty_torch.set_fault(path, None)


def _no_configuration(path: Path) -> None:
    (path / "config.json").unlink()


def _no_json(path: Path) -> None:
    (path / "config.json").write_text("{ model_type: llama")


def _unknown_architecture(path: Path) -> None:
    file = path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"model_type": "zorblat", "architectures": ["ZorblatForCausalLM"]}))


def _other_shapes(path: Path) -> None:
    file = path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"intermediate_size": 2 * config["intermediate_size"]}))


def _truncated_weights(path: Path) -> None:
    file = path / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])


def _no_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def _empty_weights(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def _tokenizer_is_no_json(path: Path) -> None:
    (path / "tokenizer.json").write_text("<html>404</html>")


def _no_tokenizer(path: Path) -> None:
    for file in path.glob("*token*"):
        file.unlink()


def _bad_template(path: Path) -> None:
    for file in path.glob("*.jinja"):
        file.write_text("{% for message in messages %}{{ message.content }}")


def _empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


def _nothing(path: Path) -> None:
    shutil.rmtree(path)


def _a_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("no directory")


DAMAGE: Mapping[str, Callable[[Path], None]] = {
    "no-configuration": _no_configuration,
    "configuration-no-json": _no_json,
    "unknown-architecture": _unknown_architecture,
    "other-shapes": _other_shapes,
    "truncated-weights": _truncated_weights,
    "no-weights": _no_weights,
    "empty-weights": _empty_weights,
    "tokenizer-no-json": _tokenizer_is_no_json,
    "no-tokenizer": _no_tokenizer,
    "bad-template": _bad_template,
    "empty-directory": _empty,
    "no-directory": _nothing,
    "a-file": _a_file,
}
"""What is done to a good model's directory, by the model's name."""
