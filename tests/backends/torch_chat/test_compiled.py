"""Compiled steps: the numbers of the fast pass, and no token that knows of another, of threads or of cores."""

import gc
import subprocess
import sys
import threading
import time

import pytest
import torch
from compiled_runner import ARCHITECTURES, BROKEN, HERE, LOUD, VOCABULARY, a_runner, both, compiled_steps, read

from ark_backends.torch_chat import int8
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.closeness import relative_errors
from ark_backends.torch_chat.compiled import simd, tables
from ark_backends.torch_chat.int8 import Int8Linear
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.linear import FloatLinear

pytestmark = [
    pytest.mark.skipif(int8.supported() is not None, reason="this CPU is not one for int8"),
    pytest.mark.skipif(not simd.WIDTH, reason="this CPU is not one for compiled steps"),
]


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
import ctypes, mmap, torch, compiled_runner
runner = compiled_runner.compiled_steps(compiled_runner.a_runner())
for length in (1, 15, 16, 20):
    kv = compiled_runner.read(runner, length, room=1)
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
import compiled_runner
from ark_backends.torch_chat.closeness import relative_errors
for kind in ("int8", compiled_runner.torch.float32, compiled_runner.torch.bfloat16):
    runner = compiled_runner.compiled_steps(compiled_runner.a_runner("Qwen3", kind=kind))
    (logits, _), (expected, _) = compiled_runner.both(runner, [0, 7, 40, 300])
    print(float(relative_errors(logits, expected).median()))
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


def test_they_do_not_depend_on_the_type_that_a_model_being_loaded_has_set():
    runner = compiled_steps(a_runner())
    expected = runner.steps([40], [read(runner, 4)])
    try:
        for kind in (torch.bfloat16, torch.float16, torch.float64):
            torch.set_default_dtype(kind)
            assert torch.equal(runner.steps([40], [read(runner, 4)]), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_helpers_end_with_what_they_help():
    def helpers():
        return {thread for thread in threading.enumerate() if thread.name.startswith("ark-step-")}

    # Those of earlier tests may be ending.
    others = helpers()
    runner = compiled_steps(a_runner(), threads=4)
    runner.steps([40], [read(runner, 4)])
    own = helpers() - others
    assert len(own) == 3
    runner.steps = None
    gc.collect()
    end = time.monotonic() + 30
    while any(thread.is_alive() for thread in own):
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
