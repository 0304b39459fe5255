"""Opening a model: what is missing is said before anything is imported, and options name their fields."""

import json
import sys

import pytest

from ark.config import ConfigError, ModelConfig
from ark_backends.exllama import ExLlamaV2, ExLlamaV3
from ark_backends.exllama.options import ExLlamaV2Options

pytestmark = pytest.mark.anyio


def model(**more):
    return ModelConfig(name="m", path="/nowhere/at/all", **more)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ({"cache_tokens": 1000}, "engine: cache_tokens: .*multiple of 256"),
        ({"cache_type": "fp8"}, "engine: cache_type: .*"),
        ({"gpu_split": [-1.0]}, r"engine: gpu_split\[0\]: .*"),
        ({"draft_tokens": 0}, "engine: draft_tokens: .*"),
        ({"rope_scale": 0.5}, "engine: rope_scale: .*"),
        ({"max_running": 300}, "engine: max_running: 300 replies need a prefill_chunk of at least 2560"),
        ({"cache_size": 1}, "engine: .*cache_size"),
    ],
)
async def test_options_name_their_field(engine, message):
    with pytest.raises(ConfigError, match=f"model 'm', {message}"):
        await ExLlamaV2.open(model(engine=engine))


async def test_the_successor_has_options_of_its_own():
    with pytest.raises(ConfigError, match="rope_scale"):
        await ExLlamaV3.open(model(engine={"rope_scale": 2.0}))
    assert ExLlamaV2Options().max_running * 8 <= ExLlamaV2Options().prefill_chunk


@pytest.mark.parametrize("kind", [ExLlamaV2, ExLlamaV3])
async def test_without_a_gpu_the_start_says_what_is_missing(kind):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=f"model 'm': {kind.package} cannot run here. Missing: .*CUDA"):
        await kind.open(model())


def test_each_thing_that_is_missing_is_said(monkeypatch):
    from ark_backends.exllama import requirements

    torch = pytest.importorskip("torch")
    absent = {"exllamav3", "exllamav3_ext", "triton", "ninja"}
    monkeypatch.setattr(requirements, "_found", lambda module: module not in absent)
    monkeypatch.setattr(requirements.shutil, "which", lambda tool: None)
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Old One")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (7, 5))
    said = requirements.missing_requirements("exllamav3")
    assert said[0] == "exllamav3: pip install 'ark-server[exllamav3]'"
    assert "8.0 or newer: Old One is older" in said[1]
    assert said[2].startswith("triton")
    assert "nvcc" in said[3]
    assert "g++" in said[3]
    assert "ninja" in said[3]
    # All there: nothing is said.
    absent.clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    assert not requirements.missing_requirements("exllamav3")


@pytest.mark.parametrize(
    ("package", "method", "advice"),
    [
        ("exllamav2", "exl3", 'set backend = "exllamav3"'),
        ("exllamav3", "exl2", 'set backend = "exllamav2"'),
        ("exllamav2", "awq", "torch_chat may run it"),
    ],
)
def test_weights_of_the_other_engine_are_refused(tmp_path, package, method, advice):
    pytest.importorskip("torch")
    from ark_backends.exllama import opening

    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": method}}))
    with pytest.raises(ConfigError, match=f"model 'm', backend: .*{advice}"):
        opening._refuse_foreign(package, "model 'm', backend", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    opening._refuse_foreign(package, "model 'm', backend", tmp_path)


def test_a_package_that_cannot_be_imported_leaves_nothing_behind(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from ark_backends.exllama.opening import prepare

    package = tmp_path / "halfway"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from halfway import inner\nraise OSError('no compiler\\nCUDA_HOME is not set')"
    )
    (package / "inner.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for _ in range(2):
        with pytest.raises(ConfigError, match="halfway cannot be imported: CUDA_HOME is not set"):
            prepare("halfway", model())
        assert not [name for name in sys.modules if name.startswith("halfway")]


@pytest.mark.parametrize(
    ("asked", "longest", "cache", "context"),
    [(None, 4096, 8192, 4096), (1000, 4096, 8192, 1000), (None, 4096, 2048, 2044)],
)
def test_the_context_fits_the_cache(asked, longest, cache, context):
    pytest.importorskip("torch")
    from ark_backends.exllama.loading import context_length

    assert context_length(model(context_length=asked), longest, cache, 4) == context


def test_memory_that_holds_no_page_is_said():
    pytest.importorskip("torch")
    from ark_backends.exllama.loading import fitting_tokens

    assert fitting_tokens(model(), 1000 * 256 * 10 + 5, 10) == 256_000
    with pytest.raises(ConfigError, match="are left for KV"):
        fitting_tokens(model(), -5, 1000)


def test_a_hub_id_with_its_revision():
    found = ModelConfig(name="org/model@4.0bpw", backend="exllamav2")
    assert (found.source, found.revision) == ("org/model", "4.0bpw")
    assert ModelConfig(name="m", path="./a@b").source == "./a@b"
    assert ModelConfig(name="m", path="org/model@x", revision="y").source == "org/model@x"


def test_a_short_context_is_no_fault_of_the_cache():
    pytest.importorskip("torch")
    from ark_backends.exllama.loading import context_length

    assert context_length(model(context_length=100), 4096, 8192, 4) == 100
    assert context_length(model(), 4096, 256, 16) == 240
    with pytest.raises(ConfigError, match="model 'm', context_length: 1 token holds no conversation"):
        context_length(model(context_length=1), 4096, 8192, 0)


def test_a_draft_model_is_named_by_its_field(tmp_path):
    pytest.importorskip("torch")
    from ark_backends.exllama import opening

    # Only a hub id has a revision behind an @.
    path = tmp_path / "draft@1"
    with pytest.raises(ConfigError, match=r"model 'm', engine\.draft_model: .*draft@1"):
        opening._draft("exllamav2", model(), ExLlamaV2Options(draft_model=str(path)))
    path.mkdir()
    with pytest.raises(ConfigError, match=r"model 'm', engine\.draft_model: .* has no config\.json"):
        opening._draft("exllamav2", model(), ExLlamaV2Options(draft_model=str(path)))
    for text in ("[1]", "{"):
        (path / "config.json").write_text(text)
        with pytest.raises(ConfigError, match=r"model 'm', engine\.draft_model: .*cannot be read"):
            opening._draft("exllamav2", model(), ExLlamaV2Options(draft_model=str(path)))
    (path / "config.json").write_text('{"quantization_config": {"quant_method": "exl3"}}')
    with pytest.raises(ConfigError, match=r"model 'm', engine\.draft_model: its weights are exl3"):
        opening._draft("exllamav2", model(), ExLlamaV2Options(draft_model=str(path)))
    (path / "config.json").write_text('{"quantization_config": "none"}')
    assert opening._draft("exllamav2", model(), ExLlamaV2Options(draft_model=str(path))) == path


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            AssertionError(" ## Could not find lm_head\nmore"),
            "model 'm': exllamav2 cannot load /x: Could not find lm_head",
        ),
        (KeyError(), "model 'm': exllamav2 cannot load /x: KeyError"),
        (RuntimeError("Insufficient VRAM for model and cache"), "model 'm': the GPUs' memory .*engine.cache_tokens"),
        (ConfigError("model 'm', engine.draft_model: no"), "^model 'm', engine.draft_model: no$"),
    ],
)
def test_what_a_loader_refuses_is_an_error_of_the_configuration(fault, said):
    pytest.importorskip("torch")
    from pathlib import Path

    from ark_backends.exllama.loading import loading

    with pytest.raises(ConfigError, match=said), loading("exllamav2", model(), Path("/x")):
        raise fault


def test_a_draft_model_has_the_models_vocabulary():
    pytest.importorskip("torch")
    from ark_backends.exllama.loading import check_vocabulary

    check_vocabulary(model(), 100, 100)
    with pytest.raises(ConfigError, match=r"model 'm', engine\.draft_model: it has 99 tokens and the model 100"):
        check_vocabulary(model(), 99, 100)
