"""Models with random weights in the shapes of real ones that write plain text, for servers of different engines.

Every byte is a token, and the tokenizers of transformers and of llama.cpp agree on that, so any text costs the same on
either side, and a reply that a client sends back is the tokens that it was. The rows of all other tokens are zero: they
cost what they would, and are never chosen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from random_model import SHAPES

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

FIRST, LAST = 33, 127
"""The bytes that it may write."""


def alphabet() -> list[str]:
    """The names that byte-level tokenizers give to the 256 bytes, in the order of the ids here."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def names(shape: str) -> list[str]:
    """Every token of the vocabulary, by id."""
    letters = alphabet()
    special = ["<|im_start|>", "<|im_end|>"]
    unused = SHAPES[shape]["vocab_size"] - len(letters) - len(special)
    return [*letters, *special, *(f"<unused{i}>" for i in range(unused))]


def save(path: Path, shape: str, *, context_length: int) -> None:
    """Write a model of a shape into a directory, once."""
    if (path / "config.json").exists():
        return
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = alphabet()
    core = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SHAPES[shape],
        max_position_embeddings=context_length,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    written = [i for i, letter in enumerate(letters) if FIRST <= ord(letter) < LAST]
    quiet = torch.ones(config.vocab_size, dtype=torch.bool)
    quiet[written] = False
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        # Small and not zero: they are read as well, and no row of numbers may be without any.
        embedding[quiet] *= 1e-3
    model.to(torch.bfloat16).save_pretrained(path)


def save_gguf(path: Path, target: Path, shape: str, kind: str) -> None:
    """The same weights for llama.cpp, once. `kind` is ``q8_0``, ``q4_0`` or ``bf16``. Needs the package gguf."""
    if target.exists():
        return
    import gguf
    import torch
    from safetensors.torch import load_file

    size, tokens = SHAPES[shape], names(shape)
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
    kinds = [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2
    kinds += [gguf.TokenType.UNUSED] * (len(tokens) - len(kinds))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    # It wants some; this one joins nothing.
    writer.add_token_merges(["<unused0> <unused1>"])
    writer.add_eos_token_id(257)
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
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{parts[rest.removesuffix('.weight')]}.weight"


def _turned(name: str, weight: Any, heads: int, kv_heads: int) -> Any:
    """llama.cpp turns neighbouring numbers by a position, transformers those that are half a head apart."""
    count = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2])
    if count is None:
        return weight
    return weight.view(count, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def _context(path: Path) -> int:
    import json

    return int(json.loads((path / "config.json").read_text())["max_position_embeddings"])
