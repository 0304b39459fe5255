"""Compiled steps: the numbers of the fast pass, and no token that knows of another, of threads or of cores."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time

import numba
import pytest
import tiny_model
import torch
import transformers

from ark.backends import GenerationJob, SamplingParams
from ark.config import ModelConfig
from ark_backends.torch_chat import TorchChat, compiled, int8
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.compiled import cache, simd, steps, tables, trial
from ark_backends.torch_chat.compiled.steps import Steps
from ark_backends.torch_chat.int8 import AS_THEY_ARE, Int8Linear
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.linear import FloatLinear
from ark_backends.torch_chat.quantize import relative_errors
from ark_backends.torch_chat.runner import Runner

pytestmark = [
    pytest.mark.skipif(int8.supported() is not None, reason="this CPU is not one for int8"),
    pytest.mark.skipif(not simd.WIDTH, reason="this CPU is not one for compiled steps"),
]

LOUD, BROKEN = 198, 197
"""Ids whose embedding is made a thousand times as large, and not a number."""

VOCABULARY = 199
HERE = os.environ | {"PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.path.dirname(tiny_model.__file__)])}
WINDOW = 16

ARCHITECTURES = {
    "Llama": {"tie_word_embeddings": True},
    "Qwen2": {
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "Qwen3": {"head_dim": 64},
    "Mistral": {"sliding_window": WINDOW, "num_attention_heads": 10, "head_dim": 32},
}


def a_runner(architecture="Llama", *, kind="int8", checked=True, **more):
    """A random model on the fast pass, its linear layers in a kind."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.1,
    }
    torch.manual_seed(5)
    config = getattr(transformers, f"{architecture}Config")(**shape | ARCHITECTURES[architecture] | more)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight", "layernorm.weight")):
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.get_input_embeddings().weight[LOUD] *= 1000.0
    runner = Runner(model)
    assert runner.speed_up()
    assert not checked or compiled.unable(runner.decoder, runner.spec) is None
    with torch.inference_mode():
        for _, layer, put in runner.decoder.linears():
            if kind == "int8":
                put(Int8Linear(layer.weight, layer.bias, AS_THEY_ARE))
            else:
                bias = None if layer.bias is None else layer.bias.to(kind)
                put(FloatLinear(layer.weight.to(kind), bias))
    return runner


def compiled_steps(runner, threads=2):
    runner.steps = Steps(runner.decoder, runner.spec, threads)
    return runner


def read(runner, count, seed=0, *, room=8):
    """KV of a sequence of so many tokens."""
    tokens = torch.randint(3, 190, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    kv = KVBuffer(runner.spec, count + room)
    if tokens:
        runner._pass([Piece(kv, tokens)], [])
    kv.length = count
    return kv


def both(runner, lengths, usual=None):
    """Logits of one token behind so many, compiled and by torch, and the KV that each wrote."""
    usual = usual or runner
    ids = list(range(30, 30 + len(lengths)))

    def by_torch(ids, kvs):
        return usual._pass([Piece(kv, [token]) for token, kv in zip(ids, kvs, strict=True)], range(len(ids)))

    found = []
    for compute in (runner.steps, by_torch):
        kvs = [read(usual, length, seed) for seed, length in enumerate(lengths)]
        logits = compute(ids, kvs)
        found.append((logits, torch.cat([kv.data[:, 0, :, : kv.length + 1].flatten() for kv in kvs])))
    return found


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_computes_what_the_fast_pass_computes(architecture, kind):
    runner = compiled_steps(a_runner(architecture, kind=kind))
    usual = a_runner(architecture, kind=kind)
    # torch rounds what stands between layers to the weights' type, and the kernels do not.
    for _, layer, put in usual.decoder.linears():
        put(FloatLinear(layer.weight.float(), None if layer.bias is None else layer.bias.float()))
    (logits, kv), (expected, expected_kv) = both(runner, [0, 1, 7, 15, 16, 17, 40, 129, 300], usual)
    assert float(relative_errors(logits, expected).max()) < 1e-4
    assert float(relative_errors(kv[None], expected_kv[None])) < 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_computes_what_the_fast_pass_computes_in_int8(architecture):
    runner = compiled_steps(a_runner(architecture))
    (logits, kv), (expected, expected_kv) = both(runner, [0, 1, 7, 15, 16, 17, 40, 129, 300])
    errors = relative_errors(logits, expected)
    # An activation between two steps may go to either, rarely.
    assert float(errors.median()) < 1e-4
    assert float(errors.max()) < 0.1
    assert float(relative_errors(kv[None], expected_kv[None])) < 0.02


@pytest.mark.parametrize("length", [tables.PART - 1, tables.PART, 2 * tables.PART + 130])
def test_long_histories_are_attended_to_in_parts(length):
    runner = compiled_steps(a_runner(kind=torch.float32))
    (logits, _), (expected, _) = both(runner, [length, 3])
    assert float(relative_errors(logits, expected).max()) < 1e-4
    # The layers of Mistral have a window, which begins within a part.
    runner = compiled_steps(a_runner("Mistral", kind=torch.float32, sliding_window=1500))
    (logits, _), (expected, _) = both(runner, [length])
    assert float(relative_errors(logits, expected).max()) < 1e-4


def test_room_grows_with_tokens_and_with_parts():
    runner = compiled_steps(a_runner(kind=torch.float32))
    for lengths in ([5], [5] * 9, [5], [3 * tables.PART], [5] * 40):
        (logits, _), (expected, _) = both(runner, lengths)
        assert float(relative_errors(logits, expected).max()) < 1e-4


@pytest.mark.parametrize("kind", ["int8", torch.float32])
@pytest.mark.parametrize("architecture", ["Llama", "Qwen2", "Qwen3"])
def test_a_sequence_does_not_depend_on_its_neighbours_or_on_threads(architecture, kind):
    runner = a_runner(architecture, kind=kind)
    runner.decoder._embedding = runner.decoder._embedding.clone()
    runner.decoder._embedding[BROKEN] = float("nan")
    alone = follow(compiled_steps(runner, 1), others=0)
    for threads, others in ((1, 1), (2, 0), (2, 2), (2, 3), (3, 7), (5, 17)):
        for got, expected in zip(follow(compiled_steps(runner, threads), others), alone, strict=True):
            assert torch.equal(got, expected), (threads, others)


def follow(runner, others):
    """Logits of a sequence read and then continued, beside others that are loud and broken."""
    kv = KVBuffer(runner.spec, 64)
    prompt = list(range(3, 40))
    logits = [runner.forward([Piece(kv, prompt)], [0])[0]]
    kv.length = len(prompt)
    beside = [read(runner, 5 * i, i, room=20) for i in range(others)]
    for step in range(5):
        singles = [Piece(kv, [40 + step])]
        singles += [Piece(one, [(LOUD, BROKEN, 50 + i)[i % 3]]) for i, one in enumerate(beside)]
        turn = step % len(singles)
        pieces = singles[turn:] + singles[:turn]
        if others:
            pieces.append(Piece(KVBuffer(runner.spec, 64), [LOUD, *range(60, 60 + others)]))
        logits.append(runner.forward(pieces, range(len(pieces)))[-turn % len(singles)])
        for piece in pieces:
            piece.kv.length += len(piece.token_ids)
    return logits


def test_nothing_is_written_beyond_a_sequence():
    runner = compiled_steps(a_runner())
    with pytest.raises(ValueError, match="no room"):
        runner.steps([40, 41], [read(runner, 4), read(runner, 4, room=0)])
    with pytest.raises(IndexError):
        runner.steps([VOCABULARY], [read(runner, 4)])


def test_nothing_is_read_beyond_a_sequence():
    code = """
import ctypes, mmap, torch, test_compiled
runner = test_compiled.compiled_steps(test_compiled.a_runner())
for length in (1, 15, 16, 20):
    kv = test_compiled.read(runner, length, room=1)
    size = kv.data.nbytes
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + pages
    # Whoever touches what comes behind ends here.
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
    data = torch.frombuffer(memory, dtype=torch.float32, count=size // 4, offset=pages - size)
    kv.data = data.view(kv.data.shape).copy_(kv.data)
    print(float(runner.steps([40], [kv]).norm()))
"""
    run = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.split()) == 4


def test_only_logits_that_are_wanted_are_given():
    runner = compiled_steps(a_runner(kind=torch.float32))

    def pieces():
        return [Piece(read(runner, 4, i), [40 + i]) for i in range(3)] + [Piece(read(runner, 4, 9), [7, 8, 9])]

    whole = runner.forward(pieces(), range(4))
    for wanted in ([], [1], [3], [0, 2], [0, 3], [0, 1, 2]):
        assert torch.equal(runner.forward(pieces(), wanted), whole[wanted])


@pytest.mark.parametrize("kind", ["int8", torch.float32])
@pytest.mark.parametrize("broken", ["embedding", "hidden", "attention"])
def test_what_is_not_finite_is_not_lost(kind, broken):
    runner = a_runner(kind=kind)
    expected = a_runner(kind=kind)
    for one in (runner, expected):
        layer = one.decoder.layers[0]
        with torch.inference_mode():
            if broken == "embedding":
                one.decoder._embedding[40] = float("inf")
            elif broken == "hidden":
                # Only this one number of those within the MLP.
                scale(layer.open)[5] = float("nan")
            else:
                scale(layer.read)[-3] = float("nan")
    compiled_steps(runner)
    kv = read(expected, 4)
    assert not torch.isfinite(runner.steps([40], [kv])).any()


def scale(linear):
    return linear.scale if isinstance(linear, Int8Linear) else linear.weight


def test_vectors_of_256_bits_compute_the_same():
    if simd.WIDTH == 32:
        pytest.skip("they are what all tests here are about")
    code = """
import llvmlite.binding as binding
real = binding.get_host_cpu_features
binding.get_host_cpu_features = lambda: {"avxvnni": True, "fma": True}
from ark_backends.torch_chat.compiled import simd
assert simd.WIDTH == 32
binding.get_host_cpu_features = real
import test_compiled
for kind in ("int8", test_compiled.torch.float32, test_compiled.torch.bfloat16):
    runner = test_compiled.compiled_steps(test_compiled.a_runner("Qwen3", kind=kind))
    (logits, _), (expected, _) = test_compiled.both(runner, [0, 7, 40, 300])
    print(float(test_compiled.relative_errors(logits, expected).median()))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    whole, single, half = map(float, run.stdout.split())
    assert max(whole, single) < 1e-4
    # torch rounds to bfloat16 what stands between layers.
    assert half < 0.03


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


def test_they_do_not_depend_on_the_type_that_a_model_being_loaded_has_set():
    runner = compiled_steps(a_runner())
    expected = runner.steps([40], [read(runner, 4)])
    try:
        for kind in (torch.bfloat16, torch.float16, torch.float64):
            torch.set_default_dtype(kind)
            assert torch.equal(runner.steps([40], [read(runner, 4)]), expected)
    finally:
        torch.set_default_dtype(torch.float32)


OPENED = """
import sys, test_compiled
runner = test_compiled.compiled_steps(test_compiled.a_runner())
print(float(runner.steps([40], [test_compiled.read(runner, 4)]).norm()), end="")
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


@pytest.mark.parametrize("told", [{"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}, {"NUMBA_ENABLE_AVX": "0"}])
def test_where_numba_compiles_for_another_cpu_torch_computes(told):
    code = """
import test_compiled
runner = test_compiled.a_runner("Llama", kind=test_compiled.torch.float32)
print(test_compiled.compiled.unable(runner.decoder, runner.spec))
"""
    code = code.replace("a_runner(", "a_runner(checked=False, architecture=")
    run = subprocess.run([sys.executable, "-c", code], env=HERE | told, capture_output=True, text=True, check=False)
    assert "this CPU lacks the instructions" in run.stdout, run.stderr


def test_helpers_end_with_what_they_help():
    def helpers():
        return [thread for thread in threading.enumerate() if thread.name.startswith("ark-step-")]

    gc.collect()
    before = len(helpers())
    runner = compiled_steps(a_runner(), threads=4)
    runner.steps([40], [read(runner, 4)])
    assert len(helpers()) == before + 3
    runner.steps = None
    gc.collect()
    end = time.monotonic() + 30
    while len(helpers()) > before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_several_models_step_at_the_same_time():
    runners = [compiled_steps(a_runner(name), threads=2) for name in ("Llama", "Qwen3")]
    kvs = [[read(runner, 40 + i, i, room=200) for i in range(3)] for runner in runners]
    expected = [runner.steps([40, 41, 42], mine) for runner, mine in zip(runners, kvs, strict=True)]
    wrong = []

    def compute(which):
        for _ in range(150):
            if not torch.equal(runners[which].steps([40, 41, 42], kvs[which]), expected[which]):
                wrong.append(which)

    threads = [threading.Thread(target=compute, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


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
