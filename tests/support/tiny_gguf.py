"""A small random model as a GGUF, which llama.cpp's server opens in an instant."""

from __future__ import annotations

from pathlib import Path

CONTEXT = 16384
"""Tokens that it was made for."""


def save_tiny_gguf(path: Path, *, seed: int = 0) -> None:
    """Its vocabulary has a token for each byte, and it mostly writes letters."""
    import torch
    from gguf_files import byte_tokens, save_gguf
    from transformers import LlamaConfig, LlamaForCausalLM

    tokens = byte_tokens(259)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    letters = torch.tensor([token.isascii() and token.isalpha() for token in tokens])
    with torch.no_grad():
        # Greedy, it never ends and never breaks off a character; sampled, it rarely does.
        model.lm_head.weight[~letters] *= 0.02
    save_gguf(path, model, tokens=tokens)
