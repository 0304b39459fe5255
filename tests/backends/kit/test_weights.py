"""Where a model's files come from."""

import json

import pytest
from huggingface_hub import constants

from ark.config import ConfigError
from ark.engines.chat import SamplingParams
from ark_backends.kit import weights


def test_a_directory_is_taken_as_it_is(tmp_path):
    assert weights.resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("source", ["/no/such/model", "./missing", "~/missing-model", "a/b/c"])
def test_a_path_that_does_not_exist(source):
    with pytest.raises(ConfigError, match="does not exist"):
        weights.resolve(source)


def test_a_hub_id_that_cannot_be_reached(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"some/model.*HF_HUB_OFFLINE"):
        weights.resolve("some/model")
    with pytest.raises(ConfigError, match="neither"):
        weights.resolve("not an id")


def test_a_download_that_broke_off_and_cannot_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    shards = {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    # The index of the other format, whose shards nobody wants.
    (snapshot / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    (snapshot / "model-1-of-2.safetensors").touch()
    with pytest.raises(ConfigError, match=r"in part, without model-2-of-2.*'ark pull some/model'"):
        weights.resolve("some/model")
    (snapshot / "model-2-of-2.safetensors").touch()
    assert weights.resolve("some/model") == snapshot


def test_files_that_serving_needs():
    files = [
        "config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "README.md", "LICENSE",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
        "pytorch_model.bin", "original/consolidated.00.pth", "onnx/model.onnx", "original/params.json",
        "fp16/model.safetensors", "tf_model.h5", ".gitattributes",
    ]  # fmt: skip
    assert weights.wanted(files) == [
        "chat_template.jinja", "config.json", "generation_config.json",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
        "tokenizer.json",
    ]  # fmt: skip
    assert weights.wanted(["config.json", "pytorch_model.bin"]) == ["config.json", "pytorch_model.bin"]


def test_sampling_is_as_the_models_own_files_say(tmp_path):
    found = '{"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "do_sample": true}'
    (tmp_path / "generation_config.json").write_text(found)
    expected = SamplingParams(temperature=0.6, top_k=20, repetition_penalty=1.1)
    assert weights.recommended_sampling(tmp_path) == expected
    (tmp_path / "generation_config.json").write_text('{"do_sample": false}')
    assert weights.recommended_sampling(tmp_path) == SamplingParams(temperature=0.0)
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(ConfigError, match="generation_config"):
        weights.recommended_sampling(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "SmolLM2-135M-Instruct",
            SamplingParams(temperature=0.2, top_p=0.9, presence_penalty=0.4, frequency_penalty=0.1),
        ),
        ("models--HuggingFaceTB--SmolLM2-1.7B/snapshots/0123", SamplingParams(temperature=0.2, top_p=0.9)),
        ("Qwen2.5-0.5B", SamplingParams(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05)),
        ("something-else", SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)),
        # A directory further up says nothing of the model.
        ("smollm2/models/mine", SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)),
    ],
)
@pytest.mark.parametrize("config", [None, '{"eos_token_id": 2}'])
def test_sampling_of_a_model_that_says_nothing_is_that_of_its_family(tmp_path, name, expected, config):
    path = tmp_path / name
    path.mkdir(parents=True)
    if config is not None:
        (path / "generation_config.json").write_text(config)
    assert weights.recommended_sampling(path) == expected
