"""Models from GGUF files against those of transformers from which the files were made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from compiled_runner import ARCHITECTURES, LOUD, a_model
from gguf_files import plain_logits, save_gguf

from ark.config import ConfigError, ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.kit.gguf.file import GGUF
from ark_backends.torch_chat import TorchChat, compiled
from ark_backends.torch_chat.check import divergence, relative_errors
from ark_backends.torch_chat.checkpoint import checkpoint
from ark_backends.torch_chat.gguf import opening
from ark_backends.torch_chat.gguf.decoder import Decoder
from ark_backends.torch_chat.gguf.model import build
from ark_backends.torch_chat.gguf.referee import NoVerdict, Referee, described
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.torch_chat.runner import Runner
from ark_backends.torch_chat.stored import load_stored
from ark_backends.torch_chat.structure import FAMILIES

pytestmark = pytest.mark.anyio

TOKENS = [5, 17, 150, 3, 44, 44, 90, 7, 121, 8, 60, 61, 62, 5, 17, 150, 9, 12, 13, 14, 15, 100, 101, 102, 103, 104]
"""More than a window."""

EXACT = TorchChatOptions(quantization="none", dtype="float32")
on_kernels = pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for compiled kernels")


def saved(path: Path, model: Any, **more: Any) -> Path:
    save_gguf(path / "model.gguf", model, **more)
    return path / "model.gguf"


def compiled_logits(path: Path, *, quantized: bool = False) -> torch.Tensor:
    decoder = Decoder(GGUF(path))
    runner = Runner(decoder, decoder.spec)
    runner.compile(quantized=quantized)
    return runner.logits(TOKENS)


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float(relative_errors(got, expected).max())


CASES = {
    "Llama": {},
    "Llama untied": {"tie_word_embeddings": False},
    "Llama with biases": {"attention_bias": True},
    "Qwen2": {"use_sliding_window": False, "sliding_window": None, "layer_types": None},
    "Qwen3": {},
    "Mistral": {"sliding_window": None},
    "Gemma2": {},
    "Gemma3Text": {"layer_types": None, "num_hidden_layers": 7, "query_pre_attn_scalar": 48},
    "Gemma": {"head_dim": 48},
    "Granite": {
        "attention_multiplier": 0.2, "embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 2.0
    },
    "Olmo2": {},
    "SmolLM3": {"num_hidden_layers": 5, "tie_word_embeddings": True, "no_rope_layers": None},
    "Starcoder2": {"sliding_window": 16, "use_bias": True},
    "Phi3": {"sliding_window": 16, "tie_word_embeddings": True},
    "Phi3 longrope": {
        "original_max_position_embeddings": 4096,
        "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 4096,
            "short_factor": [1.0 + index / 8 for index in range(12)], "long_factor": [float(2 + i) for i in range(12)]
        }
    },
    "Llama linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}},
    "Llama yarn": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 2048
        }
    },
}  # fmt: skip


def the_model(case: str) -> Any:
    architecture = case.split(maxsplit=1)[0]
    more: dict[str, Any] = dict(CASES[case])
    if architecture == "Gemma2":
        # Otherwise what llama.cpp's converter writes says something else.
        more["query_pre_attn_scalar"] = ARCHITECTURES["Gemma2"]["head_dim"]
    return a_model(architecture, **more)


@pytest.mark.parametrize("case", CASES)
def test_an_architecture_computes_what_it_was_made_from(case: str, tmp_path: Path) -> None:
    model = the_model(case)
    path = saved(tmp_path, model)
    expected = plain_logits(model, TOKENS)
    stored = build(GGUF(path))
    assert error(plain_logits(stored, TOKENS), expected) < 1e-4
    if compiled.unable() is None and type(model).__name__ in FAMILIES:
        check_decoder(path, expected)
    load_stored(stored, torch.float32, torch.device("cpu"))
    assert error(plain_logits(stored, TOKENS), expected) < 1e-4


def check_decoder(path: Path, expected: torch.Tensor) -> None:
    """The kernels compute the same from a file's own parts and from the model of transformers."""
    runner = Runner(build(GGUF(path)))
    assert compiled.unfit(runner.model, runner.spec) is None
    spec = described(runner.spec)
    runner.compile()
    got = runner.logits(TOKENS)
    assert error(got, expected) < 1e-4
    try:
        decoder = Decoder(GGUF(path))
    except LookupError:
        assert "yarn" in GGUF(path).metadata.values()
        return
    assert described(decoder.spec) == spec
    assert torch.equal(compiled_logits(path), got)


def test_frequencies_with_factors(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 1e4,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    model = a_model("Llama", rope_parameters=rope)
    plain = a_model("Llama").model.rotary_emb.inv_freq
    factors = plain / model.model.rotary_emb.inv_freq
    assert factors.min() < factors.max()
    path = saved(tmp_path, model, tensors={"rope_freqs.weight": factors})
    expected = plain_logits(model, TOKENS)
    assert error(plain_logits(build(GGUF(path)), TOKENS), expected) < 1e-4
    if compiled.unable() is None:
        check_decoder(path, expected)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "F16", "BF16"])
@on_kernels
def test_types_of_numbers(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, a_model("Llama", tie_word_embeddings=False), numbers=kind)
    # The file's own numbers, as the package gguf has them.
    stored = build(GGUF(path))
    load_stored(stored, torch.float32, torch.device("cpu"))
    expected = plain_logits(stored, TOKENS)
    assert error(compiled_logits(path), expected) < 1e-4
    assert divergence(compiled_logits(path, quantized=True), expected) < 0.02


async def test_a_file_is_served(tmp_path: Path) -> None:
    model = a_model("Llama", vocab_size=300)
    path = saved(tmp_path, model)
    backend = await TorchChat.open(ModelConfig(name="m", path=str(path), engine={"threads": 1, "self_check": False}))
    try:
        assert backend.context_length == 8192
        text = backend.tokenizer.render([{"role": "user", "content": "hi"}])
        prompt = backend.tokenizer.encode(text)
        assert backend.tokenizer.decode(prompt) == text
        assert backend.tokenizer.stop_token_ids == {2}
        job = GenerationJob(request_id="1", prompt=prompt, max_tokens=12, sampling=SamplingParams(temperature=0.0))
        tokens = [token async for batch in backend.generate(job) for token in batch.token_ids]
    finally:
        await backend.close()
    ids = torch.tensor([prompt])
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    assert tokens == expected[0, len(prompt) :].tolist()


@on_kernels
async def test_a_file_is_compared_with_transformers_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    model = a_model("Llama", vocab_size=300)
    with torch.no_grad():
        model.get_input_embeddings().weight[LOUD] /= 1000.0
    path = saved(tmp_path, model, numbers="Q4_1")
    asked: list[Path] = []

    class Counted(Referee):
        def __init__(self, path: Path, *arguments: Any) -> None:
            asked.append(path)
            super().__init__(path, *arguments)

    monkeypatch.setattr(opening, "Referee", Counted)

    async def open_once() -> None:
        caplog.clear()
        backend = await TorchChat.open(ModelConfig(name="m", path=str(path), engine={"quantization": "int8"}))
        await backend.close()
        assert "quantization int8: 9 of 9 linear layers" in caplog.text

    for _ in range(2):
        await open_once()
    assert asked == [path]
    first = caplog.text

    def refuses(self: Referee, spec: Any) -> Any:
        raise NoVerdict("it computes something else")

    monkeypatch.setattr(Referee, "case", refuses)
    os.utime(path, (1, 1))
    await open_once()
    assert asked == [path, path]
    assert "opened by transformers, because without it: it computes something else" in caplog.text
    assert "opened by transformers" not in first


def test_a_referee_that_ends_says_why(tmp_path: Path) -> None:
    path = saved(tmp_path, a_model("Llama"))
    path.write_bytes(path.read_bytes()[:-1000])
    referee = Referee(path, None, [1, 2, 3])
    with pytest.raises(NoVerdict, match="lies outside of it"):
        referee.case(Runner(a_model("Llama")).spec)


def test_an_architecture_that_is_not_run_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, a_model(), architecture="mamba2")
    with pytest.raises(ConfigError, match="architecture 'mamba2'"):
        checkpoint(path).load(EXACT)
