"""Where a GGUF comes from: a directory, a split one, and repositories on the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from compiled_runner import a_model
from gguf_files import save_gguf
from hub import Hub, hub

from ark.cli.arguments import find_model
from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF
from ark_backends.torch_chat.gguf.sources import choose, find_file

NAMES = {
    "README.md": 1,
    "mmproj-model-f16.gguf": 1,
    "model-Q2_K.gguf": 1,
    "model-Q4_K_M.gguf": 1,
    "model-Q4_K_S.gguf": 1,
    "model.Q8_0.gguf": 1,
    "model-IQ4_XS.gguf": 1,
    "model-UD-Q4_K_XL.gguf": 1,
    "BF16/model-BF16-00001-of-00002.gguf": 1,
    "BF16/model-BF16-00002-of-00002.gguf": 1,
}


@pytest.mark.parametrize(
    ("choice", "found"),
    [
        ("", ["model-Q4_K_M.gguf"]),
        ("Q8_0", ["model.Q8_0.gguf"]),
        ("q4_k_s", ["model-Q4_K_S.gguf"]),
        ("iq4_xs", ["model-IQ4_XS.gguf"]),
        ("UD-Q4_K_XL", ["model-UD-Q4_K_XL.gguf"]),
        ("model-Q2_K.gguf", ["model-Q2_K.gguf"]),
        ("BF16", ["BF16/model-BF16-00001-of-00002.gguf", "BF16/model-BF16-00002-of-00002.gguf"]),
    ],
)
def test_one_of_several(choice: str, found: list[str]) -> None:
    assert choose(NAMES, choice, "org/model") == found


def test_what_is_not_there_or_not_clear() -> None:
    with pytest.raises(ConfigError, match=r"there are: BF16, IQ4_XS, Q2_K, Q4_K_M, Q4_K_S, UD-Q4_K_XL, Q8_0"):
        choose(NAMES, "Q4_K", "org/model:Q4_K")
    with pytest.raises(ConfigError, match=r"several GGUFs; name one as org/model:TYPE, of: Q5_0, Q8_0"):
        choose({"a-Q8_0.gguf": 1, "a-Q5_0.gguf": 1}, "", "org/model")
    assert choose({"a.safetensors": 1}, "", "org/model") == []
    assert choose({"any name.gguf": 1}, "", "org/model") == ["any name.gguf"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "small-Q8_0.gguf"
    save_gguf(path, a_model(), numbers="Q8_0")
    return path


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first part of the same."""
    path = tmp_path_factory.mktemp("split")
    save_gguf(path / "small-Q8_0.gguf", a_model(), numbers="Q8_0", split=8)
    return path / "small-Q8_0-00001-of-00003.gguf"


def test_the_parts_of_a_split_file(split: Path, whole: Path) -> None:
    both, one = GGUF(split), GGUF(whole)
    assert {name: bytes(tensor.data) for name, tensor in both.tensors.items()} == {
        name: bytes(tensor.data) for name, tensor in one.tensors.items()
    }
    assert both.metadata["tokenizer.ggml.tokens"] == one.metadata["tokenizer.ggml.tokens"]
    # Another part will do as well.
    assert GGUF(split.with_name("small-Q8_0-00002-of-00003.gguf")).metadata.keys() == both.metadata.keys()
    assert find_model(str(split)).name == "small-Q8_0"


def test_a_directory_of_one(split: Path) -> None:
    assert find_file(str(split.parent)) == split
    assert find_model(str(split.parent)).path == str(split.parent)


def test_a_part_that_is_missing(split: Path, tmp_path: Path) -> None:
    for part in split.parent.iterdir():
        if "00003-of" not in part.name:
            (tmp_path / part.name).write_bytes(part.read_bytes())
    with pytest.raises(ConfigError, match=r"small-Q8_0-00003-of-00003\.gguf is not there"):
        find_model(str(tmp_path / split.name))


@pytest.fixture
def models(whole: Path, split: Path) -> Iterator[Hub]:
    parts = {f"Q8_0/{path.name}": path.read_bytes() for path in split.parent.iterdir()}
    files = {"README.md": b"Read me.", "small-Q4_K_M.gguf": b"not this one", **parts}
    one = {whole.name: whole.read_bytes()}
    named = {"Qwen3-0.6B-Q8_0.gguf": whole.read_bytes()}
    repositories = {"org/small-GGUF": files, "org/one-GGUF": one, "Qwen/Qwen3-0.6B-GGUF": named}
    with hub({name: {"main": content} for name, content in repositories.items()}) as found:
        yield found


def run(models: Hub, directory: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {"HF_HOME": str(directory), **models.environment, **variables}
    return subprocess.run(
        [sys.executable, "-m", "ark", *command], env=os.environ | own, capture_output=True, text=True, check=False
    )


def test_a_repository_is_checked_pulled_and_kept(models: Hub, tmp_path: Path, whole: Path) -> None:
    checked = run(models, tmp_path, "check", "org/small-GGUF:Q8_0")
    assert checked.returncode == 0, checked.stdout
    assert "org/small-GGUF:Q8_0 (chat, torch_chat)" in checked.stdout
    assert "to download, by the server or by 'ark pull org/small-GGUF:Q8_0'" in checked.stdout
    assert models.sent == []
    done = run(models, tmp_path, "pull", "org/small-GGUF:q8_0", "org/one-GGUF")
    assert done.returncode == 0, done.stderr
    first, second = map(Path, done.stdout.split())
    assert first.name == "small-Q8_0-00001-of-00003.gguf"
    assert GGUF(first).weights_bytes == GGUF(second).weights_bytes == GGUF(whole).weights_bytes
    assert len(models.sent) == 4
    away = run(models, tmp_path, "pull", "org/small-GGUF:Q8_0", "org/one-GGUF", HF_HUB_OFFLINE="1")
    assert away.stdout == done.stdout
    unknown = run(models, tmp_path, "pull", "org/small-GGUF:Q5_0")
    assert unknown.stderr == "ark: 'org/small-GGUF:Q5_0' names no GGUF there; there are: Q8_0, Q4_K_M\n"


def test_names_of_other_tools(models: Hub, tmp_path: Path) -> None:
    """A short name, and a name with the hub's address before it; each is served under the name that was given."""
    names = ("qwen3:0.6b", "hf.co/org/one-GGUF", "https://huggingface.co/org/small-GGUF:Q8_0")
    done = run(models, tmp_path, "pull", *names)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["qwen3", "org/one-GGUF", "org/small-GGUF"]
    assert [Path(line).name for line in done.stdout.split()] == [
        "Qwen3-0.6B-Q8_0.gguf",
        "small-Q8_0.gguf",
        "small-Q8_0-00001-of-00003.gguf",
    ]
