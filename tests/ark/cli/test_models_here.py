"""The commands that look at models on this machine, and the models that a command line names."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ark.cli import main
from ark.cli.arguments import chosen_config, find_model, short_names
from ark.cli.client import CommandError
from ark.config import ConfigError, ModelConfig
from ark.engines.model_files import ModelFiles, kv_bytes, read_model_files
from ark.models.backend_selection import select_backend
from ark.models.default_models import default_models, find_default

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "max_position_embeddings": 512,
}


EXL2 = LLAMA | {"quantization_config": {"quant_method": "exl2", "bits": 4.0}}


def directory(path: Path, config: Any, *files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(bytes(1000))
    return path


def checked(capsys: pytest.CaptureFixture[str], *arguments: str, status: int) -> str:
    assert main(["check", *arguments]) == status
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("config", "files", "task"),
    [
        (LLAMA, (), "chat"),
        ({"architectures": ["Gemma3ForConditionalGeneration"]}, (), "chat"),
        ({"architectures": ["GPT2LMHeadModel"]}, (), "chat"),
        ({"architectures": ["BertModel"]}, (), "embedding"),
        ({"architectures": ["XLMRobertaModel"]}, (), "embedding"),
        # A causal model that sentence-transformers pools is made for embeddings.
        ({"architectures": ["Qwen3ForCausalLM"]}, ("modules.json",), "embedding"),
        ({"architectures": ["WhisperForConditionalGeneration"]}, (), "transcription"),
        ({"alignment_heads": [[1, 0]], "suppress_ids_begin": [0]}, ("model.bin",), "transcription"),
    ],
)
def test_the_task_of_a_model(config: Any, files: tuple[str, ...], task: str, tmp_path: Path) -> None:
    assert read_model_files(directory(tmp_path, config, *files)).task == task


@pytest.mark.parametrize("config", ["", "[1]", "{", '{"architectures": ["ResNetForImageClassification"]}', "{}"])
def test_no_model_that_is_known(config: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=str(tmp_path)):
        read_model_files(directory(tmp_path, config))


def test_one_set_of_weights_is_counted(tmp_path: Path) -> None:
    found = read_model_files(
        directory(tmp_path, LLAMA, "model-1-of-2.safetensors", "model-2-of-2.safetensors", "a.bin")
    )
    assert (found.weights_bytes, found.context_length, found.quantization) == (2000, 512, None)


def test_weights_for_a_gpu_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory(tmp_path / "small", EXL2, "output.safetensors")
    assert read_model_files(path).quantization == "exl2"
    out = checked(capsys, str(path), status=1)
    assert "small (chat, exllamav2)" in out
    # This machine has not got what it takes, whichever part of it: the package, or what that needs.
    assert re.search("missing: .*" + ("CUDA" if find_spec("exllamav2") else "exllamav2"), out)


@pytest.mark.parametrize("backend", ["ExLlamaV2", "ExLlamaV3"])
def test_check_says_what_a_gpu_engine_lacks(backend: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    path = directory(tmp_path / "model", LLAMA, "model.safetensors")
    config = tmp_path / "ark.toml"
    config.write_text(f'[[models]]\nname = "m"\npath = "{path}"\nbackend = "ark_backends.exllama:{backend}"\n')
    out = checked(capsys, "--config", str(config), status=1)
    assert "missing: torch with CUDA" in out or "missing: an NVIDIA GPU" in out


class Choosy:
    """A backend that says what it lacks for a model, as far as `ark check` is concerned."""

    @staticmethod
    def generate() -> None: ...

    @staticmethod
    def missing_requirements() -> list[str]:
        return ["a left hand"]

    @staticmethod
    def unsupported_reason(model: ModelConfig, files: ModelFiles) -> str | None:
        if model.engine:
            raise ConfigError(f"model {model.name!r}, engine: {sorted(model.engine)[0]}: it has none")
        return f"a right hand for {files.directory and files.directory.name}"


def test_check_says_what_a_backend_lacks_for_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = directory(tmp_path / "model", LLAMA, "model.safetensors")
    config = tmp_path / "ark.toml"
    text = f'[[models]]\nname = "m"\npath = "{path}"\nbackend = "{__name__}:Choosy"\n'
    config.write_text(text)
    out = checked(capsys, "--config", str(config), status=1)
    assert "missing: a left hand\n  missing: a right hand for model\n  cannot be served yet" in out
    config.write_text(text + "[models.engine]\nfingers = 5\n")
    out = checked(capsys, "--config", str(config), status=1)
    assert "missing: model 'm', engine: fingers: it has none" in out


def test_bytes_of_kv() -> None:
    # 2 (K and V) x 4 layers x 2 heads x 8 numbers x 2 bytes
    assert kv_bytes(LLAMA) == 256
    assert kv_bytes({"text_config": LLAMA | {"head_dim": 16}}) == 512
    assert kv_bytes({"num_hidden_layers": 4}) is None


def test_a_model_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model(str(directory(tmp_path / "small", {"architectures": ["BertModel"]})))
    assert (model.name, model.task, model.source) == ("small", "embedding", str(tmp_path / "small"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ark.toml").write_text(
        '[server]\nlog_level = "debug"\n[aliases]\nx = "other"\n[[models]]\nname="other"'
    )
    config = chosen_config(argparse.Namespace(models=["small"], config=None))
    assert [model.name for model in config.models] == ["small"]
    assert (config.server.log_level, config.aliases) == ("debug", None)


def test_a_default_model_named_on_the_command_line() -> None:
    assert find_model(default_models()[0].name) == default_models()[0]


@pytest.mark.parametrize("name", ["/no/such", "./none", "~/none", "~nobody-of-this-name/x", "a/b/c", f"./{'a' * 300}"])
def test_no_such_directory(name: str) -> None:
    with pytest.raises(CommandError, match="does not exist"):
        find_model(name)


def test_a_hub_model_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--bert" / "snapshots" / "abc"
    directory(snapshot, {"architectures": ["BertModel"]})
    refs = tmp_path / "models--org--bert" / "refs"
    refs.mkdir()
    (refs / "v2").write_text("abc")
    model = find_model("org/bert@v2")
    assert (model.name, model.revision, model.task) == ("org/bert", "v2", "embedding")
    with pytest.raises(ConfigError, match="not downloaded yet, which HF_HUB_OFFLINE forbids"):
        find_model("org/absent")
    for name in ("what is this?", "a" * 300, f"org/{'a' * 300}", "a\0b"):
        with pytest.raises(ConfigError, match="neither a directory nor a name that a model on the hub can have"):
            find_model(name)
        # The server's own ways to a directory.
        assert resolves_to_nothing(name)


def resolves_to_nothing(name: str) -> bool:
    from ark_backends.kit.weights import resolve

    assert select_backend(ModelConfig(name="m", path=name)).name
    with pytest.raises(ConfigError, match="neither a directory"):
        resolve(name)
    return True


def test_pull_takes_what_is_here_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name, files in (("full", ("model.safetensors",)), ("bare", ())):
        root = tmp_path / f"models--org--{name}"
        directory(root / "snapshots" / "abc", LLAMA, *files)
        (root / "refs").mkdir()
        (root / "refs" / "main").write_text("abc")
    assert main(["pull", "org/full"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "models--org--full" / "snapshots" / "abc")
    assert "org/full: chat, 0 MB of weights" in captured.err
    assert main(["pull", "org/full", "org/bare"]) == 1
    assert "'org/bare' was downloaded in part, without any file of weights" in capsys.readouterr().err
    assert main(["pull", "org/absent"]) == 1
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


def test_without_models_the_default_ones_are_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pull"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [model.path for model in default_models()]
    assert re.search(
        r"SmolLM2-135M-Instruct: chat, 9\d MB of weights\n.*embedding, .*\n.*transcription, ", captured.err
    )


def test_the_default_models_can_be_served(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARK_CONFIG", raising=False)
    out = checked(capsys, status=0)
    assert re.search(r"backends: .*torch_chat \(ark-server\[torch\]\)", out)
    assert "SmolLM2-135M-Instruct (chat, torch_chat)" in out
    assert "can be served" in out
    assert "cannot" not in out


def test_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = directory(tmp_path / "plain", LLAMA, "model.safetensors")
    empty = directory(tmp_path / "empty", LLAMA)
    out = checked(capsys, str(plain), str(empty), status=1)
    assert "context: 512 tokens, 0 MB of KV" in out
    assert f"missing: there are no weights in {empty}" in out
    assert out.count("can be served") == out.count("cannot be served yet") == 1


def test_a_configuration_with_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embedder = directory(tmp_path / "embedder", {"architectures": ["BertModel"]}, "model.safetensors")
    config = tmp_path / "ark.toml"
    config.write_text(
        f'[[models]]\nname = "a"\npath = "{embedder}"\n[[models]]\nname = "b"\nbackend = "nowhere"\n'
        f'[[models]]\nname = "c"\npath = "{tmp_path}/absent"\n'
    )
    out = checked(capsys, "--config", str(config), status=1)
    assert 'missing: the model does embedding: set task = "embedding"' in out
    assert "missing: no backend is called 'nowhere'" in out
    assert f"missing: {tmp_path}/absent does not exist" in out
    assert main(["check", "--config", str(tmp_path / "none.toml")]) == 1
    assert "none.toml: cannot be read" in capsys.readouterr().err


def test_where_it_listens() -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--bind", "127.0.0.1:1", "--port", "2"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "99999"], "0 to 65535"),
        (["--port", "-1"], "0 to 65535"),
        (["--port", "http"], "0 to 65535"),
        (["--bind", "a:1", "--port", "2"], "--bind says"),
        (["--certfile", "cert.pem"], "both --certfile and --keyfile"),
        (["--keyfile", "key.pem"], "both --certfile and --keyfile"),
    ],
)
def test_what_serve_is_asked_wrongly(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["serve", *arguments])
    assert left.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--bind", "127.0.0.1:99999"], "ark: cannot listen: "),
        (["--certfile", "none.pem", "--keyfile", "none.pem"], "ark: none.pem cannot be read"),
    ],
)
def test_where_it_cannot_listen(arguments: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "ark.toml").write_text('[[models]]\nname = "echo"\nbackend = "echo_backend:EchoBackend"')
    command = [sys.executable, "-m", "ark", "serve", "--config", str(tmp_path / "ark.toml"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(says)
    assert "Traceback" not in done.stderr


def test_short_names_are_names_of_the_hub() -> None:
    for short, name in short_names().items():
        assert short == short.lower()
        assert re.fullmatch(r"[\w.-]+/[\w.-]+(:[A-Z0-9_]+)?", name)
        assert find_default(short) is None
