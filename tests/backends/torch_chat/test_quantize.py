"""Whole models in 8 bits: what is quantized, what stays, and what it costs."""

import copy
import logging
import shutil

import pytest
import torch
from tiny_model import save_tiny_llama
from transformers import AutoModelForCausalLM

from ark.config import ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.torch_chat import TorchChat, int8, quantize
from ark_backends.torch_chat.int8 import Int8Linear, Int8Module
from ark_backends.torch_chat.linear import FloatLinear
from ark_backends.torch_chat.quantized_cache import FILE, QuantizedCache
from ark_backends.torch_chat.runner import Runner
from ark_embedded import chat_model_path

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(int8.supported() is not None, reason="this CPU is not one for int8"),
]

TOKENS = list(range(3, 90))


def decoder_of(plain):
    runner = Runner(copy.deepcopy(plain))
    assert runner.speed_up()
    return runner


@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_all_linear_layers_of_a_family(architecture, tiny):
    plain = tiny(architecture).plain
    runner = decoder_of(plain)
    report = quantize.quantize(runner, TOKENS)
    assert (report.total, report.kept) == (2 * 4 + 1, ())
    assert all(isinstance(layer, Int8Linear) for _, layer, _ in runner.decoder.linears())
    assert 0 < report.logits_error < 0.2
    with torch.inference_mode():
        expected = plain(torch.tensor([TOKENS])).logits[0]
    error = float(quantize.relative_errors(runner.logits(TOKENS), expected).median())
    assert error == pytest.approx(report.logits_error, rel=1e-3)
    assert runner.model is None


def test_a_layer_that_does_not_bear_it_stays(llama, monkeypatch):
    original = Int8Linear.__call__

    def blurred(self, x, factor=None):
        out = original(self, x, factor)
        return out * 1.5 if self.outputs == 2 * 64 else out

    monkeypatch.setattr(Int8Linear, "__call__", blurred)
    runner = decoder_of(llama.plain)
    report = quantize.quantize(runner, TOKENS)
    assert report.kept == ("layer 0 open", "layer 1 open")
    kinds = {name: type(layer) for name, layer, _ in runner.decoder.linears()}
    assert kinds["layer 0 open"] is FloatLinear
    assert kinds["layer 0 close"] is Int8Linear


@pytest.mark.parametrize("architecture", ["Gemma2", "Gemma3Text", "GptOss"])
def test_other_models_layer_by_layer(architecture, tiny):
    plain = tiny(architecture).plain
    runner = Runner(copy.deepcopy(plain))
    report = quantize.quantize(runner, TOKENS)
    small = {name for name, module in runner.model.named_modules() if isinstance(module, Int8Module)}
    assert small
    assert len(small) == report.total - len(report.kept)
    # Experts and routers are no linear modules, or are left as they are.
    assert not [name for name in small if "expert" in name or "router" in name]
    with torch.inference_mode():
        expected = plain(torch.tensor([TOKENS])).logits[0]
    errors = quantize.relative_errors(runner.logits(TOKENS), expected)
    assert 0 < float(errors.median()) < quantize.LOGITS_ERROR


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, context_length=256)
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
        assert "quantization int8: 9 of 9 linear layers" in caplog.text
        assert "quantization = 'none' is exact" in caplog.text
    finally:
        await backend.close()


async def test_small_models_are_left_as_they_are(directory, caplog):
    caplog.set_level(logging.INFO)
    backend = await TorchChat.open(configured(directory))
    await backend.close()
    assert "int8" not in caplog.text
    assert "fast pass" in caplog.text


async def test_a_model_that_is_not_itself_in_int8_is_served_as_it_is(directory, caplog, monkeypatch):
    expected = await TorchChat.open(configured(directory, quantization="none"))
    tokens = await greedy(expected)
    await expected.close()
    monkeypatch.setattr(quantize, "LOGITS_ERROR", 0.0)
    backend = await TorchChat.open(configured(directory, quantization="int8"))
    try:
        assert "quantization none: in int8 its logits are off" in caplog.text
        assert await greedy(backend) == tokens
    finally:
        await backend.close()


@pytest.mark.parametrize("architecture", ["Llama", "Gemma2"])
def test_what_is_kept_gives_the_same_bits(architecture, tiny, tmp_path):
    plain = tiny(architecture).plain
    plain.save_pretrained(tmp_path)
    results = []
    for _ in range(2):
        runner = Runner(copy.deepcopy(plain))
        runner.speed_up()
        report = quantize.quantize(runner, TOKENS, QuantizedCache(tmp_path))
        results.append((report, runner.logits(TOKENS)))
    (made, expected), (restored, got) = results
    assert restored.total == made.total
    assert restored.logits_error == made.logits_error > 0
    assert set(restored.kept) == set(made.kept)
    assert torch.equal(got, expected)


async def test_a_model_keeps_its_int8_layers_when_asked(directory, tmp_path, caplog, monkeypatch):
    model = shutil.copytree(directory, tmp_path / "model")
    caplog.set_level(logging.INFO)
    replies = []
    for _ in range(2):
        backend = await TorchChat.open(configured(model, quantization="int8", keep_quantized=True))
        replies.append(await greedy(backend))
        await backend.close()
        # Nothing is fitted the second time.
        monkeypatch.setattr(quantize, "_fit_decoder", None)
    assert replies[0] == replies[1]
    assert caplog.text.count("are kept in") == 1
    assert caplog.text.count("quantization int8: 9 of 9 linear layers") == 2


def test_what_was_kept_of_other_weights_is_made_again(llama, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    llama.plain.save_pretrained(tmp_path)
    quantize.quantize(decoder_of(llama.plain), TOKENS, QuantizedCache(tmp_path))
    other = copy.deepcopy(llama.plain)
    torch.nn.init.normal_(other.model.layers[0].mlp.down_proj.weight, std=0.02)
    other.save_pretrained(tmp_path)
    runner = decoder_of(other)
    quantize.quantize(runner, TOKENS, QuantizedCache(tmp_path))
    assert "is of other weights" in caplog.text
    fresh = decoder_of(other)
    quantize.quantize(fresh, TOKENS)
    assert torch.equal(runner.logits(TOKENS), fresh.logits(TOKENS))


@pytest.mark.parametrize("damage", ["cut", "noise", "directory"])
def test_a_file_that_cannot_be_used_is_made_again_or_passed_over(llama, tmp_path, caplog, damage):
    llama.plain.save_pretrained(tmp_path)
    store = QuantizedCache(tmp_path)
    if damage == "directory":
        # It can neither be read nor replaced.
        (store.path / "something").mkdir(parents=True)
    else:
        quantize.quantize(decoder_of(llama.plain), TOKENS, store)
        whole = store.path.read_bytes()
        store.path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"\xff" * 64)
    report = quantize.quantize(decoder_of(llama.plain), TOKENS, store)
    assert report.total == 2 * 4 + 1
    assert ("cannot be kept" if damage == "directory" else "cannot be read") in caplog.text
    assert (store.read() is None) == (damage == "directory")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(f"{FILE}.")] == []


async def test_what_int8_costs_the_embedded_model():
    """How often its most likely next token is another one, over replies that it has given itself."""
    path = str(chat_model_path())
    backend = await TorchChat.open(ModelConfig(name="chat", path=path, engine={"threads": 1}))
    replies = []
    for text in ("Hello! Who are you?", "My name is Tom.", "Count from 1 to 5.", "Answer in JSON: a is 1.", "Say: sun"):
        prompt = backend.tokenizer.encode(backend.tokenizer.render([{"role": "user", "content": text}]))
        job = GenerationJob(request_id="1", prompt=prompt, max_tokens=40, sampling=SamplingParams(temperature=0.0))
        replies.append(prompt + [token async for batch in backend.generate(job) for token in batch.token_ids])
    await backend.close()
    full, small = (decoder_of(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)) for _ in range(2))
    report = quantize.quantize(small, backend.tokenizer.encode(quantize.SAMPLE))
    assert report.kept == ()
    pairs = [(full.logits(tokens).argmax(-1), small.logits(tokens).argmax(-1)) for tokens in replies]
    same = sum(int((one == other).sum()) for one, other in pairs)
    total = sum(map(len, replies))
    assert total > 150
    assert same / total > 0.97
