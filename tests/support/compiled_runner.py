"""Random models that the compiled kernels compute, and transformers in float64 as their referee."""

from __future__ import annotations

import copy
import hashlib
import os
from typing import Any

import torch
import transformers

from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.int8 import rounded
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.runner import Runner

LOUD, BROKEN = 198, 197
"""Ids whose embedding is made a thousand times as large, and not a number."""

VOCABULARY = 199
HERE = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
"""The environment of a process that imports this module."""

WINDOW = 16
SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Llama": {"tie_word_embeddings": True},
    "Qwen2": {"use_sliding_window": True, **SLIDING},
    "Qwen3": {"head_dim": 64},
    "Mistral": {"sliding_window": WINDOW, "num_attention_heads": 10, "head_dim": 32},
    "Gemma2": {"head_dim": 32, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0, **SLIDING},
    "Gemma": {"head_dim": 48, "num_key_value_heads": 1},
    # Every second layer sees no positions.
    "SmolLM3": {"no_rope_layers": [1, 0], "use_sliding_window": False},
    "Gemma3Text": {"head_dim": 48, "query_pre_attn_scalar": 20, **SLIDING},
}

KINDS = ["int8", torch.float32, torch.bfloat16]


def a_model(architecture: str = "Llama", *, seed: int = 5, **more: Any) -> Any:
    """A random model, whose biases and gains are no zeros and ones."""
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(seed)
    config = getattr(transformers, f"{architecture}Config")(**shape | ARCHITECTURES.get(architecture, {}) | more)
    # Of transformers' own attention functions, only the eager one knows caps.
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "norm.weight", "layernorm.weight")):
                parameter.add_(torch.randn_like(parameter) * 0.2)
        model.get_input_embeddings().weight[LOUD] *= 1000.0
    return model


def a_runner(model: Any = None, *, kind: Any = "int8", threads: int = 2) -> Runner:
    """A model computed by the kernels, its weights of a kind."""
    model = copy.deepcopy(a_model() if model is None else model)
    model = model if kind == "int8" else model.to(kind)
    runner = Runner(model)
    assert compiled.unfit(model, runner.spec) is None
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        runner.compile(quantized=kind == "int8")
    finally:
        torch.set_num_threads(before)
    return runner


def expected(model: Any, tokens: list[int], *, kind: Any = torch.float32) -> torch.Tensor:
    """Logits (tokens, vocabulary) of the model in float64, with its weights as they are in a kind."""
    model = copy.deepcopy(model)
    if kind == "int8":
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                whole = rounded(module.weight)
                steps = whole.steps.view(len(whole.steps), -1, 32).float() * whole.scale[:, :, None].float()
                back = torch.nn.Parameter(steps.flatten(1)[:, : module.in_features])
                if module.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr():
                    model.get_input_embeddings().weight = back
                module.weight = back
    else:
        model = model.to(kind)
    model = model.double().eval()
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
        return logits


def digests() -> list[str]:
    """Of the logits of a model with its weights of each kind."""
    runners = (a_runner(a_model("Qwen3"), kind=kind) for kind in KINDS)
    logits = (runner.logits(list(range(3, 90))).contiguous() for runner in runners)
    return [hashlib.sha256(each.numpy().tobytes()).hexdigest() for each in logits]


def read(runner: Runner, count: int, seed: int = 0, *, room: int = 8) -> KVBuffer:
    """KV of a sequence of so many tokens, with what was never written not a number."""
    tokens = torch.randint(3, 190, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    kv = KVBuffer(runner.spec, count + room)
    kv.data.fill_(float("nan"))
    if tokens:
        runner.forward([Piece(kv, tokens)], [])
    kv.length = count
    return kv


def advance(runner: Runner, pieces: list[Piece], wanted: Any = None) -> torch.Tensor:
    """The logits after each piece, whose tokens are there then."""
    logits = runner.forward(pieces, range(len(pieces)) if wanted is None else wanted)
    for piece in pieces:
        piece.kv.length += len(piece.token_ids)
    return logits
