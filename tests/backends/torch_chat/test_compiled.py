"""Compiled kernels: the model's own numbers, and the same bits whatever is cached and whatever runs beside."""

import gc
import subprocess
import sys
import threading
import time

import pytest
import torch
from compiled_runner import (
    ARCHITECTURES,
    BROKEN,
    HERE,
    KINDS,
    LOUD,
    VOCABULARY,
    a_model,
    a_runner,
    advance,
    digests,
    expected,
    read,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.check import relative_errors
from ark_backends.torch_chat.compiled import simd, tables
from ark_backends.torch_chat.kv import KVBuffer

pytestmark = pytest.mark.skipif(compiled.unable() is not None, reason="this CPU is not one for compiled kernels")

TOKENS = [(7 * i * i + 3 * i) % 190 + 3 for i in range(300)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_computes_what_the_model_computes(architecture, kind):
    model = a_model(architecture)
    # Where the embedding is the head, the loud id has a loud logit, and its error would be that of all.
    pair = (a_runner(model, kind=kind).logits(TOKENS), expected(model, TOKENS, kind=kind))
    errors = relative_errors(*(logits[:, :BROKEN] for logits in pair))
    # In 8 bits the activations are rounded as well, and outliers among them weigh more.
    assert float(errors.median()) < 0.05 if kind == "int8" else float(errors.max()) < 2e-5


@pytest.mark.parametrize("head_dim", [16, 32, 64, 80, 96, 128, 256])
def test_heads_of_any_size(head_dim):
    model = a_model("Qwen3", head_dim=head_dim, num_attention_heads=7, num_key_value_heads=1)
    errors = relative_errors(a_runner(model, kind=torch.float32).logits(TOKENS), expected(model, TOKENS))
    assert float(errors.max()) < 2e-5


@st.composite
def shapes(draw):
    """An architecture and a shape of it, whose numbers are no multiples of what a vector holds."""
    architecture = draw(st.sampled_from(sorted(ARCHITECTURES)))
    kv_heads, group = draw(st.sampled_from([(1, 1), (2, 1), (1, 7), (3, 3), (2, 4), (1, 16)]))
    more = {"num_key_value_heads": kv_heads, "num_attention_heads": kv_heads * group}
    head_dim = draw(st.sampled_from([16, 32, 48, 64, 80]))
    more["hidden_size"] = head_dim * kv_heads * group
    if architecture != "Qwen2":
        more["head_dim"] = head_dim
        more["hidden_size"] = draw(st.integers(1, 9)) * kv_heads * group
    more["intermediate_size"] = draw(st.integers(1, 140))
    if "sliding_window" in ARCHITECTURES[architecture]:
        more["sliding_window"] = draw(st.integers(1, 150))
    return architecture, more


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck))
@given(
    shape=shapes(),
    kind=st.sampled_from(KINDS),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=6),
    others=st.lists(st.integers(1, 70), max_size=5),
    threads=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 99),
)
@example(
    shape=(
        "Llama",
        {"num_key_value_heads": 1, "num_attention_heads": 1, "hidden_size": 1, "head_dim": 16, "intermediate_size": 1},
    ),
    kind=torch.float32,
    cuts=[1],
    others=[1, 2],
    threads=1,
    seed=0,
)
def test_every_cut_beside_any_neighbours_gives_the_same_bits(*, shape, kind, cuts, others, threads, seed):
    architecture, more = shape
    model = a_model(architecture, seed=seed, **more)
    with torch.no_grad():
        model.get_input_embeddings().weight[BROKEN] = float("nan")
    count = 120
    whole = a_runner(model, kind=kind, threads=1).logits(TOKENS[:count])
    runner = a_runner(model, kind=kind, threads=threads)
    kv, done, turn = KVBuffer(runner.spec, 1), 0, 0
    while done < count:
        step = min(cuts[turn % len(cuts)], count - done)
        kv.resize(done + step)
        own = Piece(kv, TOKENS[done : done + step])
        beside = [
            Piece(KVBuffer(runner.spec, 70), [(LOUD, BROKEN, 50)[i % 3], *TOKENS[: (length + turn) % 70]])
            for i, length in enumerate(others)
        ]
        pieces = sorted([*beside, own], key=lambda piece: len(piece.token_ids) > 1)
        logits = advance(runner, pieces)[pieces.index(own)]
        done, turn = done + step, turn + 1
        # What is not a number is compared as well.
        assert torch.equal(logits.view(torch.int32), whole[done - 1].view(torch.int32)), (done, step)
        # As when a state moves, or another one goes on from it.
        kv = kv.fork(done, done + turn) if turn % 2 else kv


def test_an_embedding_that_is_the_head_is_kept_once_in_8_bits():
    runner = a_runner(a_model("Llama"))
    assert runner.compiled._embedding is None
    ids = torch.tensor([0, 5, 17, LOUD])
    embedding = a_model("Llama").get_input_embeddings().weight.detach()[ids]
    error = relative_errors(runner.compiled._embedded(ids), embedding)
    assert 0 < float(error.max()) < 0.01
    for wrong in (-1, VOCABULARY):
        with pytest.raises(IndexError):
            runner.logits([wrong])


def test_the_check_would_see_another_token():
    runner = a_runner(kind="int8")
    assert not torch.equal(runner.logits(TOKENS[:40])[-1], runner.logits([9, *TOKENS[1:40]])[-1])


@pytest.mark.parametrize("kind", ["int8", torch.float32], ids=str)
@pytest.mark.parametrize("window", [None, 1500])
def test_long_histories_are_attended_to_in_parts(kind, window):
    length = 2 * tables.PART + 130
    tokens = [(5 * i * i + i) % 190 + 3 for i in range(length)]
    model = a_model("Mistral", sliding_window=window, num_hidden_layers=1)
    runner = a_runner(model, kind=kind)
    whole = runner.logits(tokens)
    error = relative_errors(whole[-50:], expected(model, tokens, kind=kind)[-50:])
    assert float(error.median()) < (0.05 if kind == "int8" else 2e-5)
    for place in (tables.PART - 1, tables.PART, 1500, 1564, length - 1):
        kv = KVBuffer(runner.spec, length)
        advance(runner, [Piece(kv, tokens[: place - 1])], [])
        for each in (place - 1, place):
            assert torch.equal(advance(runner, [Piece(kv, [tokens[each]])])[0], whole[each]), each


def test_what_follows_a_rewind_has_the_same_bits():
    runner = a_runner()
    kv = KVBuffer(runner.spec, 120)
    whole = runner.logits(TOKENS[:100])
    advance(runner, [Piece(kv, TOKENS[:90])])
    advance(runner, [Piece(kv, [5, 6, 7])])
    kv.length = 61
    assert torch.equal(advance(runner, [Piece(kv, TOKENS[61:100])])[0], whole[99])


def test_room_grows_with_tokens_and_with_parts():
    runner = a_runner(kind=torch.float32)
    alone = {length: advance(runner, [Piece(read(runner, length), [40])])[0] for length in (5, 3 * tables.PART)}
    for lengths in ([5], [5] * 9, [3 * tables.PART, 5], [5] * 40):
        logits = advance(runner, [Piece(read(runner, length), [40]) for length in lengths])
        for length, row in zip(lengths, logits, strict=True):
            assert torch.equal(row, alone[length])


def test_nothing_is_written_beyond_a_sequence():
    runner = a_runner()
    full = read(runner, 16, room=0)
    for tokens in ([41], [41, 42]):
        with pytest.raises(ValueError, match="no room"):
            runner.forward([Piece(read(runner, 4), [40]), Piece(full, tokens)], [])
    with pytest.raises(IndexError):
        runner.forward([Piece(read(runner, 4), [VOCABULARY])], [0])


def test_nothing_is_read_beyond_a_sequence():
    code = """
import ctypes, mmap, torch, compiled_runner
from ark_backends.torch_chat.attention import Piece
runner = compiled_runner.a_runner()
for length in (1, 15, 31, 46, 63):
    kv = compiled_runner.read(runner, length, room=1)
    size = kv.data.nbytes
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    end = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + pages
    # Whoever touches what comes behind ends here.
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), mmap.PAGESIZE, 0) == 0
    data = torch.frombuffer(memory, dtype=torch.float32, count=size // 4, offset=pages - size)
    kv.data = data.view(kv.data.shape).copy_(kv.data)
    print(float(runner.forward([Piece(kv, [40])], [0]).norm()))
"""
    run = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.split()) == 5


def test_only_logits_that_are_wanted_are_given():
    runner = a_runner(kind=torch.float32)

    def pieces():
        return [Piece(read(runner, 4, i), [40 + i]) for i in range(3)] + [Piece(read(runner, 4, 9), [7, 8, 9])]

    whole = runner.forward(pieces(), range(4))
    for wanted in ([], [1], [3], [0, 2], [0, 3], [0, 1, 2]):
        assert torch.equal(runner.forward(pieces(), wanted), whole[wanted])


@pytest.mark.parametrize("kind", ["int8", torch.float32], ids=str)
@pytest.mark.parametrize("broken", ["embedding", "close", "read"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_lost(kind, broken, number):
    model = a_model()
    with torch.no_grad():
        layer = model.model.layers[0]
        if broken == "embedding":
            model.model.embed_tokens.weight[40] = number
        elif broken == "close":
            layer.mlp.down_proj.weight[5, 7] = number
        else:
            layer.self_attn.v_proj.weight[3, 3] = number
    runner = a_runner(model, kind=kind)
    logits = advance(runner, [Piece(KVBuffer(runner.spec, 8), [40])])
    assert not torch.isfinite(logits).all()


@pytest.mark.parametrize("size", [1e-30, 1e-38, 1e-42])
def test_the_smallest_numbers_do_no_harm(size):
    model = a_model()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.mul_(size)
    model.model.layers[0].self_attn.v_proj.weight.data[:40] *= size
    for kind in KINDS:
        errors = relative_errors(a_runner(model, kind=kind).logits(TOKENS[:40]), expected(model, TOKENS[:40]))
        assert float(errors.median()) < (2e-5 if kind is torch.float32 else 0.1)


def test_an_outlier_is_felt_by_its_group_alone():
    model = a_model()
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 70] *= 300.0
    errors = relative_errors(a_runner(model).logits(TOKENS), expected(model, TOKENS))
    assert float(errors.median()) < 0.1


def test_threads_of_any_state_round_alike():
    runner = a_runner()
    usual = runner.logits(TOKENS[:40])
    try:
        assert torch.set_flush_denormal(True)
        assert torch.equal(runner.logits(TOKENS[:40]), usual)
    finally:
        torch.set_flush_denormal(False)


def test_vectors_of_256_bits_compute_the_same():
    if simd.WIDTH == 32:
        pytest.skip("this CPU has vectors of 256 bits only, which all tests here are about")
    code = """
import llvmlite.binding as binding
real = binding.get_host_cpu_features
binding.get_host_cpu_features = lambda: {"avxvnni": True, "fma": True, "f16c": True}
from ark_backends.torch_chat.compiled import simd
assert simd.WIDTH == 32
binding.get_host_cpu_features = real
import compiled_runner
print(*compiled_runner.digests())
"""
    run = subprocess.run([sys.executable, "-c", code], env=HERE, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == digests()


def test_they_do_not_depend_on_the_type_that_a_model_being_loaded_has_set():
    runner = a_runner()
    usual = runner.logits(TOKENS[:20])
    try:
        for kind in (torch.bfloat16, torch.float16, torch.float64):
            torch.set_default_dtype(kind)
            assert torch.equal(runner.logits(TOKENS[:20]), usual)
    finally:
        torch.set_default_dtype(torch.float32)


def test_helpers_end_with_what_they_help():
    def helpers():
        return {thread for thread in threading.enumerate() if thread.name.startswith("ark-step-")}

    # Those of earlier tests may be ending.
    others = helpers()
    runner = a_runner(threads=4)
    runner.logits([40])
    own = helpers() - others
    assert len(own) == 3
    runner.compiled = None
    gc.collect()
    end = time.monotonic() + 30
    while any(thread.is_alive() for thread in own):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_several_models_compute_at_the_same_time():
    runners = [a_runner(a_model(name), threads=2) for name in ("Llama", "Qwen3")]
    usual = [runner.logits(TOKENS[:20]) for runner in runners]
    wrong = []

    def compute(which):
        for _ in range(100):
            if not torch.equal(runners[which].logits(TOKENS[:20]), usual[which]):
                wrong.append(which)

    threads = [threading.Thread(target=compute, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
