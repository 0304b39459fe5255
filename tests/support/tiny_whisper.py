"""A small random Whisper with the right shape, generated when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TIMESTAMPS = 1501


def save_tiny_whisper(
    path: Path,
    *,
    languages: tuple[str, ...] = (),
    hidden: int = 64,
    encoder_layers: int = 2,
    decoder_layers: int = 2,
    heads: int = 4,
    scale: float = 0.02,
) -> None:
    """Write a Whisper of transformers and a tokenizer of bytes into a directory; English-only without `languages`."""
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    core = _tokenizer(languages)
    core.save(str(path / "tokenizer.json"))
    space = core.token_to_id("\u0120")

    def token(name: str) -> int:
        found = core.token_to_id(f"<|{name}|>")
        assert found is not None, name
        return int(found)

    config = WhisperConfig(
        vocab_size=core.get_vocab_size() + TIMESTAMPS,
        d_model=hidden,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=4 * hidden,
        decoder_ffn_dim=4 * hidden,
        init_std=scale,
        bos_token_id=token("endoftext"),
        eos_token_id=token("endoftext"),
        pad_token_id=token("endoftext"),
        decoder_start_token_id=token("startoftranscript"),
        suppress_tokens=[],
        begin_suppress_tokens=[space, token("endoftext")],
    )
    torch.manual_seed(5)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=token("startoftranscript"),
        bos_token_id=token("endoftext"),
        eos_token_id=token("endoftext"),
        pad_token_id=token("endoftext"),
        suppress_tokens=[],
        begin_suppress_tokens=[space, token("endoftext")],
        lang_to_id={f"<|{name}|>": token(name) for name in languages},
        alignment_heads=[[decoder_layers - 1, 0]],
    )
    # Otherwise transformers drops unknown fields when it loads the model again.
    model.generation_config._from_model_config = False
    model.save_pretrained(path)
    WhisperFeatureExtractor().save_pretrained(path)


def _tokenizer(languages: tuple[str, ...]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    merges = [("\u0120", "-"), ("\u0120", "'")]
    for first, second in merges:
        vocabulary[first + second] = len(vocabulary)
    if languages:
        # CTranslate2 recognizes a multilingual vocabulary by an empty token.
        vocabulary[""] = len(vocabulary)
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    names = ["endoftext", "startoftranscript", *languages, "translate", "transcribe"]
    names += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    core.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return core
