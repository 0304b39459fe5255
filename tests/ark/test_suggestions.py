"""What is said of a mistake in a configuration."""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec
import pytest

from ark.config import Config, ConfigError, ModelConfig
from ark.suggestions import explain
from ark_backends.torch_chat.options import TorchChatOptions


def said(text: str) -> str:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(tomllib.loads(text), Config)
    return explain(caught.value, Config)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("[server]\nkeep_alife = 2", "did you mean keep_alive?"),
        ("[serve]\npage = true", "did you mean server?"),
        ("[server]\nbody_bytes = 2", "it is a field of [limits]"),
        ("[[models]]\nname = 'm'\norigins = '*'", "it is a field of [server.cors]"),
        ("[limits]\nrequests_per_minute = 2", "did you mean key_requests_per_minute?"),
        ("sha256 = 'a'", "it is a field of [[keys]]"),
        ("temperature = 1", "it is a field of [models.sampling]"),
        ("[[models]]\nname = 'm'\nsampling = {warmth = 1}", "there are temperature, top_p, top_k, min_p, "),
        ("[[models]]\nname = 'm'\ntask = 'embeddings'", "it is one of 'chat', 'embedding', 'rerank', 'transcription'"),
        ("[server]\nlog_level = 'loud'", "it is one of 'debug', 'error', 'info', 'warning'"),
        ("[sessions]\ncookie_same_site = 1", "Expected `str`, got `int`"),
        ("[models]\nname = 'm'", "such a table has two brackets, [[models]]"),
        ("[server]\nkeep_alive = {}", "Expected `float`, got `object`"),
        ("[[keys]]\nname = 'k'\nsha256 = '...'", ": keys[0].sha256: Expected the 64 hex digits that 'ark key' writes"),
        ("[server.cors]\norigins = ['a']", ": server.cors.origins[0]: Expected an origin, such as https://"),
        ("[sessions]\ncookie_path = 'ai'", ": sessions.cookie_path: Expected a path that begins with /"),
        ("[sessions]\ncookie_domain = 'a;b'", ": sessions.cookie_domain: Expected the name of a domain"),
        ("[aliases]\n'' = 'm'", "Expected `str` of length >= 1"),
    ],
)
def test_what_would_be_right(text: str, right: str) -> None:
    assert right in said(text)


@pytest.mark.parametrize(
    ("options", "right"),
    [
        ({"kv_byte": 1}, "model 'm', engine: Object contains unknown field `kv_byte`; did you mean kv_bytes?"),
        ({"dtype": "fp16"}, "engine: dtype: Invalid enum value 'fp16'; it is one of 'auto', 'bfloat16', 'float16', "),
    ],
)
def test_what_would_be_right_for_an_engine(options: dict[str, Any], right: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ModelConfig(name="m", engine=options).engine_options(TorchChatOptions)
    assert right in str(caught.value)
