"""Opening a model from its configuration."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_model import save_tiny_llama

from ark.config import ConfigError, ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.torch_chat import TorchChat, compiled, devices

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, context_length=256)
    return path


def configured(directory, **more):
    more = {"engine": {"dtype": "float32", "threads": 1}, **more}
    return ModelConfig(name="tiny", path=str(directory), **more)


async def test_open_generate_close(directory):
    from transformers import AutoModelForCausalLM

    backend = await TorchChat.open(configured(directory))
    assert backend.context_length == 256
    assert backend.capabilities.reasoning is False
    assert {"temperature", "top_p", "top_k", "min_p", "seed", "stop"} <= backend.capabilities.parameters
    prompt = backend.tokenizer.encode(backend.tokenizer.render([{"role": "user", "content": "hi"}]))
    job = GenerationJob(request_id="1", prompt=prompt, max_tokens=12, sampling=SamplingParams(temperature=0.0))
    tokens = [token async for batch in backend.generate(job) for token in batch.token_ids]
    plain = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    ids = torch.tensor([prompt])
    expected = plain.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert tokens == expected[0, len(prompt) :].tolist()
    await backend.close()
    assert not backend.status().alive


async def test_opening_writes_no_progress_bar(directory, capfd):
    backend = await TorchChat.open(configured(directory))
    await backend.close()
    assert "%|" not in capfd.readouterr().err


async def test_context_is_the_smallest_of_model_configuration_and_memory(directory):
    token = 2 * 2 * 2 * 16 * 4
    for more, expected in (
        ({"context_length": 100}, 100),
        ({"context_length": 1000}, 256),
        # The compiled kernels keep 16 tokens together.
        ({"engine": {"dtype": "float32", "kv_bytes": 70 * token}}, 64 if compiled.unable() is None else 70),
    ):
        backend = await TorchChat.open(configured(directory, **more))
        assert backend.context_length == expected
        await backend.close()


async def test_what_cannot_be_opened(directory, tmp_path):
    for config, reason in (
        (configured(directory, engine={"prefil_chunk": 4}), "prefil_chunk"),
        (configured(directory, engine={"device": "quantum"}), "quantum"),
        (configured(directory, engine={"dtype": "float32", "kv_bytes": 1}), "kv_bytes"),
        (configured(tmp_path / "missing"), "does not exist"),
        (configured(tmp_path), "tokenizer"),
    ):
        with pytest.raises(ConfigError, match=reason):
            await TorchChat.open(config)


async def test_broken_weights(directory, tmp_path):
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="cannot load"):
        await TorchChat.open(configured(tmp_path))
    weights = load_file(directory / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"lack 1 parameters, such as model\.norm"):
        await TorchChat.open(configured(tmp_path))


def test_importing_the_backend_imports_no_engine():
    code = (
        "import sys, ark_backends.torch_chat as t; assert t.TorchChat;"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_automatic_dtype_keeps_what_is_exact_and_otherwise_the_clearly_faster_one(monkeypatch, directory, caplog):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory)
    cpu = torch.device("cpu")
    gigabyte = 1 << 30

    def chosen(stored, size=gigabyte, *, exact=False):
        config.dtype = stored
        return devices.dtype("auto", cpu, config, size, exact=exact)

    monkeypatch.setattr(devices, "free_bytes", lambda target: 10 * gigabyte)
    for half, expected in ((0.5, torch.bfloat16), (0.9, torch.float32), (2.0, torch.float32)):
        monkeypatch.setattr(devices, "_matmul_times", lambda hidden, wide, half=half: (1.0, half))
        assert chosen(torch.bfloat16) is expected
        assert chosen(torch.bfloat16, exact=True) is torch.bfloat16
        # What is stored in more is not rounded for speed.
        assert chosen(torch.float32) is torch.float32
        assert chosen(torch.float16) is torch.float32
    monkeypatch.setattr(devices, "_matmul_times", lambda hidden, wide: (1.0, 0.5))
    assert chosen(torch.bfloat16, 1000) is torch.float32
    assert "rounded" not in caplog.text
    monkeypatch.setattr(devices, "free_bytes", lambda target: gigabyte)
    assert chosen(torch.float32) is torch.bfloat16
    assert "they are rounded" in caplog.text
    assert devices.dtype("float16", cpu, config, gigabyte) is torch.float16


def test_both_types_are_measured():
    assert all(0 < seconds < 10 for seconds in devices._matmul_times(64, 128))


def test_free_memory_is_a_figure():
    assert 1 << 20 < devices.free_bytes(torch.device("cpu")) < 1 << 50
