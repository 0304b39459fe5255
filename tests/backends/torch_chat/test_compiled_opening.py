"""Compiled kernels at open: which models and machines they are for, and where what was compiled is kept."""

import asyncio
import logging
import subprocess
import sys

import numba
import pytest
import tiny_model
from compiled_runner import HERE, a_model

from ark.config import ModelConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.torch_chat import TorchChat, compiled, opening
from ark_backends.torch_chat.attention import UnsupportedModel
from ark_backends.torch_chat.compiled import cache, simd
from ark_backends.torch_chat.compiled import model as compiled_model
from ark_backends.torch_chat.runner import Runner

pytestmark = pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for compiled kernels")


def reason(model):
    return compiled.unfit(model, Runner(model).spec)


def test_models_of_other_shapes_are_left_to_torch():
    assert reason(a_model()) is None
    assert "heads of 8" in reason(a_model("Qwen3", head_dim=8))
    assert "weights in torch.float16" in reason(a_model().half())
    model = a_model()
    model.config.hidden_act = "relu"
    assert "its architecture" in reason(model)


def test_machines_that_are_not_made_for_it_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(simd, "WIDTH", 0)
    assert "lacks the instructions" in reason(a_model())
    monkeypatch.setattr(simd, "WIDTH", 64)
    monkeypatch.delattr(compiled, "simd")
    monkeypatch.setitem(sys.modules, "ark_backends.torch_chat.compiled.simd", None)
    assert "numba cannot be used" in reason(a_model())


@pytest.fixture
def directory(tmp_path):
    tiny_model.save_tiny_llama(tmp_path, hidden=128)
    return tmp_path


async def opened_model(directory, **engine):
    engine = {"dtype": "float32", "threads": 2, **engine}
    return await TorchChat.open(ModelConfig(name="tiny", path=str(directory), engine=engine))


@pytest.mark.anyio
async def test_kernels_that_differ_from_the_model_are_not_used(directory, monkeypatch, caplog):
    real = opening.self_check

    def differs(runner, known):
        if runner.compiled is not None:
            raise UnsupportedModel("packed and plain passes differ")
        real(runner, known)

    monkeypatch.setattr(opening, "self_check", differs)
    with caplog.at_level(logging.INFO, "ark.torch_chat"):
        backend = await opened_model(directory)
    try:
        assert "tiny: compiled kernels are not used: packed and plain passes differ" in caplog.text
        assert "tiny: deterministic false" in caplog.text
        assert backend.capabilities.deterministic is False
    finally:
        await backend.close()


@pytest.mark.anyio
async def test_what_cannot_be_compiled_is_left_to_torch(directory, monkeypatch, caplog):
    def fails(*arguments):
        raise numba.core.errors.TypingError("another numba")

    fails.py_func = fails
    monkeypatch.setattr(compiled_model, "compute", fails)
    monkeypatch.setattr(compiled_model, "again", lambda function: function)
    for quantization in ("none", "int8"):
        backend = await opened_model(directory, quantization=quantization)
        await backend.close()
        assert "compiled kernels are not used: they cannot be compiled" in caplog.text
        caplog.clear()


def computed(**variables):
    """What a process computes by small kernels, whose environment has these too."""
    command = [sys.executable, "-m", "small_kernels"]
    run = subprocess.run(command, env=HERE | variables, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_what_was_kept_and_cannot_be_read_is_made_anew(tmp_path):
    assert computed(NUMBA_CACHE_DIR=str(tmp_path)) == ["42", "8"]
    kept = sorted(file for file in tmp_path.rglob("*") if file.suffix in {".nbi", ".nbc"})
    # An index and the code of each.
    assert len(kept) == 4
    for file in kept:
        file.write_bytes(b"")
    assert computed(NUMBA_CACHE_DIR=str(tmp_path)) == ["42", "8"]
    assert any(file.stat().st_size for file in tmp_path.rglob("*.nbc"))


def test_where_nothing_can_be_written_they_are_compiled_each_time():
    assert computed(XDG_CACHE_HOME="/proc/nothing", NUMBA_CACHE_DIR="") == ["42", "8"]


def test_a_process_ends_when_no_thread_computes_any_more(tmp_path):
    """One that comes out of compiled code while the interpreter ends aborts the process."""
    ended = tmp_path / "ended"
    code = f"""
import pathlib, time, compiled_runner
def step(thread):
    time.sleep(0.5)
    pathlib.Path({str(ended)!r}).touch()
runner = compiled_runner.a_runner(threads=3)
runner.compiled._team._tasks.put((step, (1,), None))
"""
    subprocess.run([sys.executable, "-c", code], env=HERE, check=True, timeout=120)
    assert ended.exists()


@pytest.mark.parametrize("told", [{"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_ENABLE_AVX": "0"}])
def test_where_numba_compiles_for_another_cpu_torch_computes(told):
    code = """
from ark_backends.torch_chat import compiled
print(compiled.unable())
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
@pytest.mark.parametrize("quantization", ["int8", "none"])
async def test_a_model_gives_the_same_reply_alone_beside_others_and_again(directory, caplog, quantization):
    with caplog.at_level(logging.INFO, "ark.torch_chat"):
        backend = await opened_model(directory, quantization=quantization)
    try:
        assert "compiled kernels, context" in caplog.text
        assert backend.capabilities.deterministic is True

        async def reply(prompt):
            job = GenerationJob(request_id="", prompt=prompt, max_tokens=20, sampling=SamplingParams(temperature=0.0))
            return [token async for batch in backend.generate(job) for token in batch.token_ids]

        prompts = [list(range(3 + i, 40 + 3 * i)) for i in range(6)]
        alone = [await reply(prompt) for prompt in prompts]
        # All of a prompt but its last token is cached now.
        assert await asyncio.gather(*map(reply, prompts)) == alone
        assert [await reply(prompt) for prompt in prompts] == alone
        assert len(set(map(tuple, alone))) > 1
    finally:
        await backend.close()
