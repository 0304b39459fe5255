"""GGUF files of random models of transformers, as llama.cpp's converter would write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from tiny_model import CHATML
from tokenizers import pre_tokenizers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

NAMES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3",
    "GemmaForCausalLM": "gemma",
    "GraniteForCausalLM": "granite",
    "Olmo2ForCausalLM": "olmo2",
    "Phi3ForCausalLM": "phi3",
    "SmolLM3ForCausalLM": "smollm3",
    "Starcoder2ForCausalLM": "starcoder2",
}
PAIRED = ("llama", "granite", "smollm3")
"""Those that the converter permutes queries and keys of."""

Quantized = Callable[[str, Any], Any]


def byte_tokens(size: int) -> list[str]:
    """A vocabulary of special tokens and one for each byte, filled up or cut to a size."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return [*tokens, *(f"[PAD{index}]" for index in range(len(tokens), size))][:size]


def pair_vocabulary(pre: str, merges: Sequence[str]) -> dict[str, Any]:
    """A byte-level vocabulary with what these pairs make, for `save_gguf`."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = dict.fromkeys([*SPECIAL, *letters, *(pair.replace(" ", "") for pair in merges)])
    return {"pre": pre, "tokens": list(made), "merges": merges}


def piece_vocabulary(name: str, pieces: Sequence[str]) -> dict[str, Any]:
    """One of SentencePiece, with these tokens, of which the first are merged first."""
    whole = [f"<0x{byte:02X}>" for byte in range(256)]
    own = [piece for piece in pieces if piece not in SPECIAL]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(own)]
    return {
        "kind": "llama",
        "pre": None,
        "tokens": ["<unk>", *SPECIAL[1:], *whole, *own],
        "kinds": kinds,
        "scores": [0.0] * 259 + [-float(rank) for rank in range(len(own))],
        "unknown_token_id": 0,
        "add_space_prefix": not name.endswith("without a space"),
    }


def save_gguf(
    path: Path,
    model: Any,
    *,
    numbers: str = "F32",
    architecture: str | None = None,
    more: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
    split: int = 0,
    **vocabulary: Any,
) -> None:
    """Write a model's weights, those of matrices in a type, and a vocabulary. `more` are further values of the
    metadata, without the architecture's name, `tensors` further tensors, and `split` the number of tensors of a
    part."""
    name = architecture or NAMES[type(model).__name__]
    config = model.config
    writer = GGUFWriter(path, name, split_max_tensors=split)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(_head_dim(config))
    writer.add_value_length(_head_dim(config))
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(config.norm_epsilon)
    _special(writer, model, NAMES[type(model).__name__])
    for key, value in (more or {}).items():
        # In the place of the model's own, if there is one.
        writer.kv_data[0].pop(f"{name}.{key}", None)
        _value(writer, f"{name}.{key}", value)
    add_vocabulary(writer, **({"tokens": byte_tokens(config.vocab_size)} | vocabulary))
    _tensors(writer, model, NAMES[type(model).__name__], numbers)
    for key, value in (tensors or {}).items():
        writer.add_tensor(key, np.asarray(value, dtype=np.float32))
    _write(writer)


def save_vocabulary(path: Path, name: str = "", **vocabulary: Any) -> None:
    """Write a vocabulary alone, of a model of a name."""
    writer = GGUFWriter(path, "llama")
    writer.add_name(name)
    add_vocabulary(writer, **vocabulary)
    writer.add_tensor("none", np.zeros(1, dtype=np.float32))
    _write(writer)


def add_vocabulary(
    writer: GGUFWriter,
    *,
    tokens: Sequence[str],
    kinds: Sequence[int] | None = None,
    merges: Sequence[str] = (),
    scores: Sequence[float] | None = None,
    kind: str = "gpt2",
    pre: str | None = "smollm",
    template: str | None = CHATML,
    **ids: Any,
) -> None:
    """The tables of a tokenizer. `ids` are further values, such as ``bos_token_id``."""
    writer.add_tokenizer_model(kind)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(list(tokens))
    special = [gguf.TokenType.CONTROL if token in SPECIAL else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_types(list(kinds) if kinds is not None else special)
    if scores is not None:
        writer.add_token_scores(list(scores))
    if kind == "gpt2":
        # An empty list cannot be written.
        writer.add_token_merges(list(merges) or ["a b"])
    if template is not None:
        writer.add_chat_template(template)
    for key, value in ({"bos_token_id": 1, "eos_token_id": 2} | ids).items():
        _value(writer, f"tokenizer.ggml.{key}", value)


def _head_dim(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _special(writer: GGUFWriter, model: Any, name: str) -> None:
    """What only some architectures have."""
    config = model.config
    rope = config.rope_parameters
    if name == "gemma3":
        writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
        rope = rope["full_attention"]
    else:
        writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if name in ("gemma2", "gemma3", "phi3", "starcoder2") and config.sliding_window:
        writer.add_sliding_window(config.sliding_window)
    if name == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        writer.add_rope_dimension_count(int(_head_dim(config) * rope["partial_rotary_factor"]))
    if rope["rope_type"] == "longrope":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for kind in ("long", "short"):
            writer.add_tensor(f"rope_factors_{kind}.weight", np.array(rope[f"{kind}_factor"], dtype=np.float32))
    if getattr(config, "attn_logit_softcapping", None):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)


def _tensors(writer: GGUFWriter, model: Any, name: str, numbers: str) -> None:
    config = model.config
    arch = next(arch for arch, known in gguf.MODEL_ARCH_NAMES.items() if known == name)
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    for full, parameter in model.named_parameters():
        found = names.get_name(full, try_suffixes=(".weight", ".bias"))
        assert found is not None, full
        value = parameter.detach().float()
        if name in PAIRED and full.rpartition(".")[0].endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if "q_proj" in full else config.num_key_value_heads
            value = value.view(heads, 2, -1, *value.shape[1:]).transpose(1, 2).reshape(value.shape)
        if name.startswith("gemma") and full.endswith("norm.weight"):
            value = value + 1
        array = value.contiguous().numpy()
        wanted = GGMLQuantizationType[numbers if array.ndim > 1 else "F32"]
        if wanted == GGMLQuantizationType.F32:
            writer.add_tensor(found, array)
        else:
            writer.add_tensor(found, gguf.quantize(array, wanted), raw_dtype=wanted)


def _value(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _write(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def plain_logits(model: Any, tokens: list[int]) -> torch.Tensor:
    """Of transformers, in float32."""
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0]
        return logits
