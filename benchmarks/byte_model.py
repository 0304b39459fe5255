"""Models with random weights in the shapes of real ones that generate plain text, to compare engines with.

Every byte is a token. The tokenizers of transformers and of llama.cpp agree on that, so any text costs the same in
both, and a reply that a client sends back has the same tokens again. The embeddings of all other tokens are near zero:
they cost the same as in the real model, and are never sampled.

A model with `thoughts` has random layers too, but a known output. After ``<think>`` it generates that many tokens of
hidden reasoning, each once, then ``</think>``, and then printable bytes in a row.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from random_model import SHAPES

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking %}<think>{% endif %}{% endif %}"
)

FIRST, LAST = 33, 127
"""The bytes that the model may generate."""

SPECIAL = ["<|im_start|>", "<|im_end|>"]
TAGS = ["<think>", "</think>"]


def alphabet() -> list[str]:
    """The names of the 256 bytes in byte-level tokenizers, in the order of their ids here."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def names(shape: str, thoughts: int = 0) -> list[str]:
    """Every token of the vocabulary, by id."""
    known = [*alphabet(), *(f"[{i}]" for i in range(thoughts)), *SPECIAL, *TAGS]
    return [*known, *(f"<unused{i}>" for i in range(SHAPES[shape]["vocab_size"] - len(known)))]


def save(path: Path, shape: str, *, context_length: int, thoughts: int = 0) -> None:
    """Write a model of a shape into a directory, unless it is there."""
    if (path / "config.json").exists():
        return
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokens = {name: i for i, name in enumerate(names(shape, thoughts))}
    core = Tokenizer(models.BPE(vocab={name: i for name, i in tokens.items() if i < 256 + thoughts}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(SPECIAL)
    core.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=context_length,
        tie_word_embeddings=not thoughts,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        if thoughts:
            _count(model, tokens, thoughts)
        else:
            written = [i for name, i in tokens.items() if len(name) == 1 and FIRST <= ord(name) < LAST]
            quiet = torch.ones(config.vocab_size, dtype=torch.bool)
            quiet[written] = False
            # Small and not zero: these rows are computed too, and a row without any number but 0 has no scale.
            model.get_input_embeddings().weight[quiet] *= 1e-3
    model.to(torch.bfloat16).save_pretrained(path)


def _count(model: Any, tokens: dict[str, int], thoughts: int) -> None:
    """Make each token's most likely successor the next one of a row, whatever precedes it.

    The template's last token is a line feed, or ``<think>``. Embeddings are large relative to what the layers add, so
    the last layer still sees the last token, and a token's output row is the embedding of the tokens that it follows.
    """
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    embedding.normal_(0.0, 2.0)
    output *= 1e-3
    thinking = [tokens["<think>"], *(tokens[f"[{i}]"] for i in range(thoughts)), tokens["</think>"]]
    writing = [tokens[chr(byte)] for byte in range(FIRST, LAST)]
    follows = [*pairwise(thinking), *pairwise(writing)]
    follows += [(before, writing[0]) for before in (thinking[-1], writing[-1], tokens["\u010a"])]
    for before, after in follows:
        output[after] += embedding[before] * 0.02


def save_gguf(path: Path, target: Path, shape: str, kind: str, *, thoughts: int = 0) -> None:
    """Write the same weights for llama.cpp, unless they are there. Needs the package gguf.

    `kind` is ``q8_0``, ``q4_0`` or ``bf16``.
    """
    if target.exists():
        return
    import gguf
    import torch
    from safetensors.torch import load_file

    size, tokens = SHAPES[shape], names(shape, thoughts)
    weights = load_file(path / "model.safetensors")
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    heads, kv_heads = size["num_attention_heads"], size["num_key_value_heads"]
    writer.add_context_length(_context(path))
    writer.add_embedding_length(size["hidden_size"])
    writer.add_block_count(size["num_hidden_layers"])
    writer.add_feed_forward_length(size["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(size["hidden_size"] // heads)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(len(tokens))
    kinds = [gguf.TokenType.NORMAL] * (256 + thoughts)
    kinds += [gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.USER_DEFINED] * len(TAGS)
    kinds += [gguf.TokenType.UNUSED] * (len(tokens) - len(kinds))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    # llama.cpp requires a merge; this one never applies.
    writer.add_token_merges(["<unused0> <unused1>"])
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        _add(writer, _renamed(name), _turned(name, weight.to(torch.float32), heads, kv_heads).numpy(), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(target)


def _add(writer: Any, name: str, array: Any, kind: str) -> None:
    import gguf

    if array.ndim == 1:
        writer.add_tensor(name, array)
        return
    form = getattr(gguf.GGMLQuantizationType, kind.upper())
    writer.add_tensor(name, gguf.quants.quantize(array, form), raw_dtype=form)


def _renamed(name: str) -> str:
    """llama.cpp's name of a tensor."""
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    whole = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{parts[rest.removesuffix('.weight')]}.weight"


def _turned(name: str, weight: Any, heads: int, kv_heads: int) -> Any:
    """Reorder rows for rotary embeddings: llama.cpp rotates neighbours, transformers numbers half a head apart."""
    count = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
    if count is None:
        return weight
    return weight.view(count, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _context(path: Path) -> int:
    import json

    return int(json.loads((path / "config.json").read_text())["max_position_embeddings"])
