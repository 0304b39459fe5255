"""What is said of the GPUs' memory before anything is loaded."""

import json

import pytest

from ark.config import ConfigError, ModelConfig
from ark.engines.model_files import ModelFiles
from ark_backends.exllama import ExLlamaV2, ExLlamaV3, requirements
from ark_backends.exllama.options import ExLlamaV2Options, ExLlamaV3Options

GB = 1 << 30
MB = 1 << 20
MODEL = ModelConfig(name="m")

# A token takes 2 x 32 layers x 8 heads x 128 numbers x 2 bytes: 128 kB.
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
}


def weights(path, size, config=LLAMA):
    """A directory with so many bytes of weights, which take no room on the disk."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    for name in ("a.safetensors", "b.safetensors"):
        with (path / name).open("wb") as file:
            file.truncate(size // 2)
    return path


def reason(options, directory, *free, package="exllamav2"):
    return requirements.unsupported_reason(package, options, directory, free)


def test_what_fits_is_not_mentioned_and_one_byte_less_is(tmp_path):
    path = weights(tmp_path / "model", 4 * GB)
    options = ExLlamaV2Options(cache_tokens=16384)
    # 2 GB of KV, and 1 GB to compute in.
    assert not reason(options, path, 7 * GB)
    said = reason(options, path, 7 * GB - 1)
    assert said.startswith("memory of the GPUs: 4096 MB of weights, 2048 MB for 16384 tokens of KV in fp16 and 1024 MB")
    assert "are 1 MB more than the 7167 MB that are free" in said
    assert "engine.cache_tokens" in said


def test_a_cache_of_fewer_bits_is_smaller(tmp_path):
    path = weights(tmp_path / "model", 4 * GB)
    # 8 bits and a thirty-second of 16 for the scale, of 16.
    assert not reason(ExLlamaV2Options(cache_tokens=16384, cache_type="q8"), path, 5 * GB + 1088 * MB)
    assert reason(ExLlamaV2Options(cache_tokens=16384, cache_type="q8"), path, 5 * GB + 1087 * MB)
    options = ExLlamaV3Options(cache_tokens=16384, cache_type="q4")
    assert not reason(options, path, 5 * GB + 512 * MB + 576 * MB, package="exllamav3")
    assert reason(options, path, 5 * GB + 512 * MB + 575 * MB, package="exllamav3")


def test_without_cache_tokens_a_page_has_to_fit(tmp_path):
    path = weights(tmp_path / "model", 4 * GB)
    assert not reason(ExLlamaV2Options(), path, 5 * GB + 32 * MB)
    assert "for 256 tokens of KV" in reason(ExLlamaV2Options(), path, 5 * GB + 31 * MB)


def test_a_draft_model_takes_weights_and_kv_too(tmp_path):
    path = weights(tmp_path / "model", 4 * GB)
    draft = weights(tmp_path / "draft", GB, LLAMA | {"num_hidden_layers": 8})
    options = ExLlamaV2Options(cache_tokens=16384, draft_model=str(draft))
    assert not reason(options, path, 8 * GB + 512 * MB)
    assert reason(options, path, 8 * GB + 511 * MB)
    # Not downloaded yet.
    assert not reason(ExLlamaV2Options(cache_tokens=16384, draft_model="some/one"), path, 7 * GB)


def test_several_gpus(tmp_path):
    path = weights(tmp_path / "model", 4 * GB)
    options = ExLlamaV2Options(cache_tokens=16384)
    assert not reason(options, path, 4 * GB, 4 * GB)
    assert reason(options, path, 4 * GB, 4 * GB - 1)
    # Of the second one nothing is used.
    split = ExLlamaV2Options(cache_tokens=16384, gpu_split=(4.0, 0.0))
    assert reason(split, path, 4 * GB, 99 * GB)
    assert not reason(split, path, 7 * GB, 0)
    # Of one that the split does not mention neither.
    assert reason(ExLlamaV2Options(cache_tokens=16384, gpu_split=(4.0,)), path, 4 * GB, 99 * GB)


@pytest.mark.parametrize(
    ("options", "gpus", "said"),
    [
        ({"gpu_split": (4.0, 4.0)}, 1, "engine.gpu_split: it is for 2 GPUs, and torch finds 1"),
        ({"gpu_split": (0.0, 0.0)}, 2, "engine.gpu_split: it leaves out every GPU"),
        ({"gpu_split": (1.5, 2.0)}, 2, "engine.gpu_split: 3.5 GB in all do not hold the 4096 MB of weights"),
        ({"tensor_parallel": True}, 1, "engine.tensor_parallel: there is one GPU only"),
        ({"tensor_parallel": True}, 2, None),
    ],
)
def test_gpus_that_are_not_there(tmp_path, options, gpus, said):
    path = weights(tmp_path / "model", 4 * GB)
    found = reason(ExLlamaV2Options(**options), path, *[80 * GB] * gpus)
    assert found is None if said is None else found.startswith(said)


def test_a_size_that_is_not_told_is_not_guessed(tmp_path):
    path = weights(tmp_path / "model", 4 * GB, {"architectures": ["SomeForCausalLM"]})
    assert not reason(ExLlamaV2Options(cache_tokens=1 << 20), path, 5 * GB)


@pytest.mark.parametrize("kind", [ExLlamaV2, ExLlamaV3])
def test_the_backends_ask_their_gpus(tmp_path, monkeypatch, kind):
    torch = pytest.importorskip("torch")
    files = ModelFiles(task="chat", directory=weights(tmp_path / "model", 4 * GB))
    with pytest.raises(ConfigError, match="engine: cache_tokens: "):
        kind.unsupported_reason(ModelConfig(name="m", engine={"cache_tokens": 5}), files)
    monkeypatch.setattr(kind, "missing_requirements", lambda: ())
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (4 * GB, 8 * GB))
    said = kind.unsupported_reason(MODEL, files)
    assert "the 4096 MB that are free" in said
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (80 * GB, 80 * GB))
    assert not kind.unsupported_reason(MODEL, files)
