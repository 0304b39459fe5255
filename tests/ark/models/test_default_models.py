"""The models that backends bring, and the names that point at models."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ark.config import Config, ConfigError, KeyConfig, ModelConfig, SamplingConfig
from ark.config_file import load_config
from ark.errors import ModelNotFound
from ark.models.default_models import all_aliases, default_models, find_default, served_models
from ark.models.served import Registry, ServedEmbedding, ServedTranscription
from ark_backends.kit import local_models
from ark_backends.kit.pinned_models import CHAT, EMBEDDING, SPEECH

KEY = "0" * 64
CHAT_MODEL = CHAT.name


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without an ark.toml, and no variables of the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARK_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def with_embeddings() -> None:
    """The extra ``embeddings`` is installed."""
    pytest.importorskip("tiktoken")


Without = Callable[[str], None]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Without:
    """Makes a module look as if it were not installed."""

    def hide(module: str) -> None:
        find = local_models.find_spec
        monkeypatch.setattr(local_models, "find_spec", lambda name: None if name == module else find(name))

    return hide


def test_without_models_the_log_says_what_is_served_and_how_to_configure_others(
    caplog: pytest.LogCaptureFixture, with_embeddings: None
) -> None:
    caplog.set_level(logging.INFO)
    Registry(Config())
    (message,) = caplog.messages
    for part in (CHAT_MODEL, EMBEDDING.name, "[[models]]"):
        assert part in message
    caplog.clear()
    Registry(Config(models=(ModelConfig(name="m"),)))
    assert not caplog.messages


def test_the_default_models(with_embeddings: None) -> None:
    chat, embedding = default_models()[:2]
    assert (chat.name, chat.task) == (CHAT_MODEL, "chat")
    assert (embedding.name, embedding.task, embedding.backend) == (EMBEDDING.name, "embedding", "bge")
    aliases = all_aliases((chat, embedding), None)
    assert aliases["gpt-4o"] == CHAT_MODEL
    for name in ("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"):
        assert aliases[name] == EMBEDDING.name


def test_a_default_model_among_others(with_embeddings: None, empty_directory: Path) -> None:
    chat, embedding = default_models()[:2]
    config = Config(
        models=(
            ModelConfig(name="org/large"),
            ModelConfig(name=EMBEDDING.name, task="embedding", aliases=("e",), engine={"threads": 1}),
            ModelConfig(name="small", path=CHAT_MODEL, max_queue=3),
            ModelConfig(name="warm", path=CHAT_MODEL, sampling=SamplingConfig(temperature=1.0)),
            ModelConfig(name="narrow", path=CHAT_MODEL, sampling=SamplingConfig(top_p=0.9), backend="torch_chat"),
            ModelConfig(name="own", path=CHAT_MODEL, backend="exllamav2"),
            ModelConfig(name="hub", path=CHAT_MODEL, revision="main"),
        )
    )
    other, given, small, warm, narrow, own, hub = served_models(config)
    assert other == config.models[0]
    assert given == msgspec.structs.replace(embedding, aliases=("e",), engine={**embedding.engine, "threads": 1})
    assert small == msgspec.structs.replace(chat, name="small", max_queue=3)
    assert (warm.path, warm.sampling.temperature, warm.engine) == (chat.path, 1.0, chat.engine)
    assert narrow.sampling == msgspec.structs.replace(chat.sampling, top_p=0.9)
    assert narrow.engine == chat.engine
    assert hub == config.models[-1]
    assert (own.path, own.sampling, own.engine) == (chat.path, SamplingConfig(), {})
    # A directory of that name is what is meant.
    (empty_directory / CHAT_MODEL).mkdir()
    assert served_models(config)[2] == config.models[2]


def test_a_default_model_whose_engine_is_not_installed(without: Without) -> None:
    without("tiktoken")
    config = Config(models=(ModelConfig(name="e", path=EMBEDDING.name, task="embedding"),))
    with pytest.raises(ConfigError, match=r"all-MiniLM-L6-v2 needs .*: pip install 'ark-server\[embeddings\]'"):
        served_models(config)


def test_names_and_keys_may_point_at_both_default_models(with_embeddings: None) -> None:
    models = (CHAT_MODEL, EMBEDDING.name)
    config = Config(
        aliases={"a": CHAT_MODEL, "b": EMBEDDING.name},
        keys=(KeyConfig(name="k", sha256=KEY, models=models),),
    )
    assert Registry(config).names(config.keys[0]) == [*models, "a", "b"]


def test_a_key_of_a_model_that_is_no_default() -> None:
    with pytest.raises(ConfigError, match="'k' may use 'gone', which is not served"):
        Registry(Config(keys=(KeyConfig(name="k", sha256=KEY, models=("gone",)),)))


def test_the_speech_model_is_served_where_its_engine_is(without: Without) -> None:
    found = [model for model in default_models() if model.task == "transcription"]
    assert [(model.name, model.path) for model in found] == [(SPEECH.name, str(SPEECH.path))]
    assert all_aliases(default_models(), None)["whisper-1"] == SPEECH.name
    without("faster_whisper")
    assert "transcription" not in {model.task for model in default_models()}
    assert "whisper-1" not in all_aliases(default_models(), None)


def test_where_the_default_models_are_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EMBEDDING.path == tmp_path / "ark" / "models" / EMBEDDING.name
    monkeypatch.setenv("ARK_MODELS", str(tmp_path / "elsewhere"))
    assert EMBEDDING.path == tmp_path / "elsewhere" / EMBEDDING.name


def test_without_the_extra_the_log_says_how_to_have_an_embedding_model(
    caplog: pytest.LogCaptureFixture, without: Without
) -> None:
    without("tiktoken")
    caplog.set_level(logging.INFO)
    registry = Registry(Config())
    served, hint = caplog.messages
    assert EMBEDDING.name not in {one.name for one in registry.models}
    assert EMBEDDING.name not in served
    assert "pip install 'ark-server[embeddings]'" in hint
    with pytest.raises(ConfigError, match="'b' points at 'all-MiniLM-L6-v2', which is not served"):
        Registry(Config(aliases={"b": EMBEDDING.name}))


def test_where_no_default_can_be_served_all_say_what_they_need(without: Without) -> None:
    for module in ("torch", "faster_whisper"):
        without(module)
    assert [model.task for model in default_models()] == ["chat", "embedding", "transcription"]
    with pytest.raises(ConfigError, match=r"SmolLM2-135M-Instruct needs torch: pip install 'ark-server\[torch\]'"):
        find_default(CHAT_MODEL)


def test_the_defaults_are_known_without_loading_an_engine() -> None:
    program = (
        "import sys\n"
        "from ark.app import create_app\n"
        "from ark.config import Config\n"
        "from ark.models.served import Registry\n"
        "Registry(Config())\n"
        "heavy = {'torch', 'transformers', 'faster_whisper', 'tiktoken', 'numpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_openais_names_point_at_the_first_chat_model() -> None:
    models = (ModelConfig(name="m"), ModelConfig(name="gpt-4o", aliases=("gpt-3.5-turbo",)))
    listed = {alias: name for alias, name in all_aliases(models, None).items() if "*" not in alias}
    assert listed == {"gpt-3.5-turbo": "gpt-4o", "gpt-4o-mini": "m"}
    assert all_aliases(models, {}) == {"gpt-3.5-turbo": "gpt-4o"}


@pytest.mark.parametrize(
    ("name", "served"),
    [
        ("gpt-4o", "own"),
        ("gpt-5.2-codex", "chat"),
        ("o3-mini", "chat"),
        ("gpt-4o-mini-transcribe-2025-12-15", "speech"),
        ("gpt-served", "gpt-served"),
        ("GPT-5", None),
        ("my-gpt-5", None),
        ("gpt*", None),
    ],
)
def test_patterns_catch_the_names_that_nothing_else_has(name: str, served: str | None) -> None:
    models = (
        ModelConfig(name="chat"),
        ModelConfig(name="own", aliases=("gpt-4o",)),
        ModelConfig(name="gpt-served"),
        ModelConfig(name="speech", task="transcription"),
    )
    registry = Registry(Config(models=models))
    if served is None:
        with pytest.raises(ModelNotFound):
            registry.find(name, None)
    else:
        assert registry.find(name, None).name == served
    assert not [listed for listed in registry.names(None) if "*" in listed]


def test_a_pattern_of_the_configuration_stands_for_one_model_and_keeps_to_the_keys() -> None:
    models = (ModelConfig(name="a"), ModelConfig(name="b", aliases=("team/*",)))
    registry = Registry(Config(models=models, aliases={"team/*-small": "a"}))
    assert [registry.find(name, None).name for name in ("team/x", "team/x-small")] == ["b", "a"]
    with pytest.raises(ModelNotFound):
        registry.find("gpt-5", None)
    with pytest.raises(ModelNotFound, match=r"There is: a\."):
        registry.find("team/x", KeyConfig(name="k", sha256="0" * 64, models=("a",)))


def test_the_shipped_example_has_the_names_of_the_founding_document() -> None:
    config = load_config(Path(__file__).parents[3] / "examples" / "document.toml", environ={})
    assert all_aliases(config.models, config.aliases) == {
        "gpt-3.5-turbo": "meta-llama/Llama-3.1-8B-Instruct",
        "gpt-4o": "meta-llama/Llama-3.1-70B-Instruct",
        "text-embedding-ada-002": "BAAI/bge-m3",
    }
    registry = Registry(config)
    assert {registry.find(name, None).config.task for name in ("gpt-4o", "gpt-3.5-turbo")} == {"chat"}
    assert registry.find_for(ServedEmbedding, "text-embedding-ada-002", None).backend_name == "bge"
    assert registry.find_for(ServedTranscription, "whisper-1", None).backend_name == "whisper"
