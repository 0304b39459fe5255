"""Whole models in 8 bits: what is quantized, what stays, and what it costs."""

import copy
import logging

import pytest
import torch
from fixture_models import TINY_CHAT
from tiny_model import save_tiny_llama
from transformers import AutoModelForCausalLM

from ark.config import ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.torch_chat import TorchChat, compiled, quantize
from ark_backends.torch_chat.check import divergence
from ark_backends.torch_chat.runner import Runner

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for int8"),
]

TOKENS = list(range(3, 90))


@pytest.mark.parametrize("architecture", ["Qwen3", "Gemma2", "Gemma3Text"])
def test_all_linear_layers_of_a_family(architecture, tiny):
    plain = tiny(architecture).plain
    runner = Runner(copy.deepcopy(plain))
    report = quantize.quantize(runner, TOKENS)
    assert (report.total, report.quantized) == (2 * 4 + 1, 2 * 4 + 1)
    assert 0 < report.divergence < 0.05
    assert runner.deterministic
    with torch.inference_mode():
        expected = plain(torch.tensor([TOKENS])).logits[0]
    assert divergence(runner.logits(TOKENS), expected) == pytest.approx(report.divergence, rel=1e-2)
    assert runner.model is None


@pytest.mark.parametrize("architecture", ["Llama", "GptOss"])
def test_other_models_layer_by_layer(architecture, tiny):
    plain = tiny(architecture).plain
    runner = Runner(copy.deepcopy(plain))
    assert compiled.unfit(runner.model, runner.spec) is not None
    report = quantize.quantize(runner, TOKENS)
    small = {name for name, module in runner.model.named_modules() if type(module).__name__ == "Int8Module"}
    assert small
    assert len(small) == report.quantized <= report.total
    assert not runner.deterministic
    # Experts and routers are no linear modules, or are left as they are.
    assert not [name for name in small if "expert" in name or "router" in name]
    with torch.inference_mode():
        expected = plain(torch.tensor([TOKENS])).logits[0]
    assert 0 < divergence(runner.logits(TOKENS), expected) < quantize.LIMIT


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, hidden=128, context_length=256)
    return path


def configured(directory, **engine):
    return ModelConfig(name="tiny", path=str(directory), engine={"threads": 1, **engine})


async def greedy(backend):
    job = GenerationJob(request_id="1", prompt=TOKENS, max_tokens=8, sampling=SamplingParams(temperature=0.0))
    return [token async for batch in backend.generate(job) for token in batch.token_ids]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_a_model_opens_in_int8_when_asked(directory, caplog, dtype):
    caplog.set_level(logging.INFO)
    backend = await TorchChat.open(configured(directory, quantization="int8", dtype=dtype))
    try:
        assert len(await greedy(backend)) == 8
        assert "quantization int8: 9 of 9 linear layers, next tokens diverge by 0.0" in caplog.text
        assert "quantization = 'none' is exact" in caplog.text
        assert "deterministic false" not in caplog.text
    finally:
        await backend.close()


async def test_small_models_are_left_as_they_are(directory, caplog):
    caplog.set_level(logging.INFO)
    backend = await TorchChat.open(configured(directory))
    await backend.close()
    assert "int8" not in caplog.text
    assert "compiled kernels" in caplog.text


async def test_a_model_that_is_not_itself_in_int8_is_served_as_it_is(directory, caplog, monkeypatch):
    expected = await TorchChat.open(configured(directory, quantization="none"))
    tokens = await greedy(expected)
    await expected.close()
    monkeypatch.setattr(quantize, "LIMIT", 0.0)
    backend = await TorchChat.open(configured(directory, quantization="int8"))
    try:
        assert "quantization none: in int8 its next tokens diverge" in caplog.text
        assert await greedy(backend) == tokens
    finally:
        await backend.close()


async def test_what_int8_costs_a_trained_model():
    """How often its most likely next token is another one, over replies that it has given itself."""
    path = str(TINY_CHAT)
    backend = await TorchChat.open(ModelConfig(name="chat", path=path, engine={"threads": 1}))
    replies = []
    for text in ("Hello! Who are you?", "My name is Tom.", "Count from 1 to 5.", "Answer in JSON: a is 1.", "Say: sun"):
        prompt = backend.tokenizer.encode(backend.tokenizer.render([{"role": "user", "content": text}]))
        job = GenerationJob(request_id="1", prompt=prompt, max_tokens=40, sampling=SamplingParams(temperature=0.0))
        replies.append(prompt + [token async for batch in backend.generate(job) for token in batch.token_ids])
    sample = backend.tokenizer.encode(quantize.SAMPLE)
    await backend.close()
    full, small = (Runner(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)) for _ in range(2))
    report = quantize.quantize(small, sample)
    assert report.quantized == report.total
    pairs = [(full.logits(tokens).argmax(-1), small.logits(tokens).argmax(-1)) for tokens in replies]
    same = sum(int((one == other).sum()) for one, other in pairs)
    total = sum(map(len, replies))
    assert total > 150
    assert same / total > 0.985
