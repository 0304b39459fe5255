"""Random models whose single tokens compiled steps compute, and torch as their referee."""

from __future__ import annotations

import os

import torch
import transformers

from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.compiled.steps import Steps
from ark_backends.torch_chat.int8 import AS_THEY_ARE, Int8Linear
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.linear import FloatLinear
from ark_backends.torch_chat.runner import Runner

LOUD, BROKEN = 198, 197
"""Ids whose embedding is made a thousand times as large, and not a number."""

VOCABULARY = 199
HERE = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
"""The environment of a process that imports this module."""

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
