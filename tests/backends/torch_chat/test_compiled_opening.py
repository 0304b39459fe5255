"""Compiled steps at open: which models and machines they are for, and where what was compiled is kept."""

import asyncio
import logging
import subprocess
import sys

import numba
import pytest
import tiny_model
import torch
import transformers
from compiled_runner import HERE, VOCABULARY, a_runner

from ark.config import ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.torch_chat import TorchChat, compiled, int8
from ark_backends.torch_chat.compiled import cache, simd, steps, trial
from ark_backends.torch_chat.compiled.steps import Steps
from ark_backends.torch_chat.runner import Runner

pytestmark = [
    pytest.mark.skipif(int8.supported() is not None, reason="this CPU is not one for int8"),
    pytest.mark.skipif(not simd.WIDTH, reason="this CPU is not one for compiled steps"),
]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"head_dim": 16}, "heads of 16"),
        ({"hidden_size": 96, "head_dim": 32}, "weights of layer 0 read"),
        ({"intermediate_size": 96}, "weights of layer 0 close"),
        ({"vocab_size": 7}, "weights of head"),
    ],
)
def test_models_of_other_shapes_are_left_to_torch(more, reason):
    config = transformers.LlamaConfig(
        **{
            "vocab_size": VOCABULARY,
            "hidden_size": 128,
            "intermediate_size": 192,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **more,
        }
    )
    runner = Runner(transformers.LlamaForCausalLM(config).float())
    assert runner.speed_up()
    assert reason in compiled.unable(runner.decoder, runner.spec)


def test_machines_and_weights_that_are_not_made_for_it_are_left_to_torch(monkeypatch):
    runner = a_runner(kind=torch.float16)
    assert "weights of layer 0 read" in compiled.unable(runner.decoder, runner.spec)
    runner = a_runner(kind=torch.float32)
    monkeypatch.setattr(simd, "WIDTH", 0)
    assert "lacks the instructions" in compiled.unable(runner.decoder, runner.spec)
    monkeypatch.setattr(simd, "WIDTH", 64)
    monkeypatch.delattr(compiled, "simd")
    monkeypatch.setitem(sys.modules, "ark_backends.torch_chat.compiled.simd", None)
    assert "numba cannot be used" in compiled.unable(runner.decoder, runner.spec)
    assert compiled.unable(None, runner.spec) == "the model is none of the fast pass"


def test_steps_that_are_slower_or_wrong_are_not_used(monkeypatch, caplog):
    runner = a_runner()
    with caplog.at_level(logging.DEBUG, "ark.torch_chat"):
        runner.compile()
    assert runner.steps is not None
    assert "8 tokens: compiled" in caplog.text
    monkeypatch.setattr(trial, "seconds", lambda work: 0.0)
    slow = a_runner()
    expected = slow.logits([3, 4, 5])
    with pytest.raises(compiled.NotUsed, match="torch is as fast here"):
        slow.compile()
    # The copies of the weights are those that suit torch, and the numbers are the same.
    assert slow.steps is None
    assert torch.equal(slow.logits([3, 4, 5]), expected)
    layer = slow.decoder.layers[0].read
    assert (layer._packed is not None) == int8.kernels(layer.outputs, 128).packed
    monkeypatch.undo()
    broken = a_runner()
    with torch.inference_mode():
        broken.decoder.layers[1].write.scale.mul_(-3.0)
    usual = a_runner()
    wrong = Steps(broken.decoder, broken.spec, 1)
    assert "their logits are off by" in trial.objection(wrong, usual._pass, usual.spec)


def test_what_cannot_be_compiled_is_left_to_torch(monkeypatch, caplog):
    def fails(*arguments):
        raise numba.core.errors.TypingError("another numba")

    fails.py_func = fails
    monkeypatch.setattr(steps, "step", fails)
    monkeypatch.setattr(steps, "again", lambda function: function)
    with pytest.raises(compiled.NotUsed, match="they cannot be compiled"):
        a_runner().compile()
    assert "steps cannot be compiled" in caplog.text


OPENED = """
import sys, compiled_runner
runner = compiled_runner.compiled_steps(compiled_runner.a_runner())
print(float(runner.steps([40], [compiled_runner.read(runner, 4)]).norm()), end="")
"""


def opened(**variables):
    """What a process prints whose environment has these too."""
    run = subprocess.run(
        [sys.executable, "-c", OPENED], env=HERE | variables, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_what_was_kept_and_cannot_be_read_is_made_anew(tmp_path):
    expected = opened(NUMBA_CACHE_DIR=str(tmp_path))
    kept = sorted(file for file in tmp_path.rglob("*") if file.suffix in {".nbi", ".nbc"})
    assert len(kept) == 2
    for file in kept:
        file.write_bytes(b"")
    assert opened(NUMBA_CACHE_DIR=str(tmp_path)) == expected
    assert not any(file.exists() for file in kept)


def test_where_nothing_can_be_written_steps_are_compiled_each_time():
    assert opened(XDG_CACHE_HOME="/proc/nothing", NUMBA_CACHE_DIR="") == opened()


def test_a_process_ends_when_no_thread_computes_any_more(tmp_path):
    """One that comes out of compiled code while the interpreter ends aborts the process."""
    ended = tmp_path / "ended"
    code = f"""
import pathlib, time, compiled_runner
def step(model, work, inputs, thread):
    time.sleep(0.5)
    pathlib.Path({str(ended)!r}).touch()
runner = compiled_runner.compiled_steps(compiled_runner.a_runner(), threads=3)
runner.steps._tasks.put((step, None, None, None, 1))
"""
    subprocess.run([sys.executable, "-c", code], env=HERE, check=True, timeout=120)
    assert ended.exists()


@pytest.mark.parametrize("told", [{"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_ENABLE_AVX": "0"}])
def test_where_numba_compiles_for_another_cpu_torch_computes(told):
    code = """
import compiled_runner
runner = compiled_runner.a_runner(kind=compiled_runner.torch.float32, checked=False)
print(compiled_runner.compiled.unable(runner.decoder, runner.spec))
"""
    run = subprocess.run([sys.executable, "-c", code], env=HERE | told, capture_output=True, text=True, check=False)
    assert "this CPU lacks the instructions" in run.stdout, run.stderr


def test_what_is_compiled_is_kept_where_numba_keeps_or_the_user_does(monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    assert cache.directory().parent == tmp_path / "numba"
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.directory().parent == tmp_path / "xdg" / "ark" / "compiled"
    twice = cache.kept(lambda x: 2 * x)
    assert twice(21) == 42
    assert list(cache.directory().rglob("*.nbi"))
    assert numba.config.CACHE_DIR == ""


def test_where_nothing_can_be_kept_it_is_compiled_each_time(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    with caplog.at_level(logging.INFO, "ark.torch_chat"):
        assert cache.kept(lambda x: 2 * x)(21) == 42
    assert "compiled functions cannot be kept" in caplog.text


@pytest.mark.anyio
async def test_a_model_opened_in_int8_serves_by_them(tmp_path, caplog):
    tiny_model.save_tiny_llama(tmp_path, hidden=128)
    engine = {"dtype": "float32", "threads": 2, "quantization": "int8"}
    with caplog.at_level(logging.INFO, "ark.torch_chat"):
        backend = await TorchChat.open(ModelConfig(name="tiny", path=str(tmp_path), engine=engine))
    try:
        assert "tiny: running streams by compiled steps" in caplog.text
        assert backend._engine._runner.steps is not None

        async def reply(prompt):
            job = GenerationJob(request_id="", prompt=prompt, max_tokens=20, sampling=SamplingParams(temperature=0.0))
            return [token async for batch in backend.generate(job) for token in batch.token_ids]

        prompts = [list(range(3 + i, 40 + 3 * i)) for i in range(6)]
        alone = [await reply(prompt) for prompt in prompts]
        assert await asyncio.gather(*map(reply, prompts)) == alone
        assert len(set(map(tuple, alone))) > 1
    finally:
        await backend.close()
