"""ark.toml as typed values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ark.config import Config, ConfigError, ModelConfig
from ark.config_file import load_config

KEY = "0" * 64


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without an ark.toml, and no variables of the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARK_CONFIG", raising=False)
    return tmp_path


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
        ("[[models]]\nname = 'm'\n[[models]]\nname = 'm'", ["'m' is used twice"]),
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
        (f"[[keys]]\nname = 'k'\nsha256 = '{KEY}'\n[[keys]]\nname = 'k'\nsha256 = '{'1' * 64}'", ["'k' is used twice"]),
        (f"[[keys]]\nname = 'k'\nsha256 = '{KEY}'\n[[keys]]\nname = 'l'\nsha256 = '{KEY}'", ["the same key"]),
        (
            f"[[models]]\nname = 'm'\n[[keys]]\nname = 'k'\nsha256 = '{KEY}'\nmodels = ['gone']",
            ["'k'", "'gone'", "not served"],
        ),
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
