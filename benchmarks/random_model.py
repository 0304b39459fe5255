"""Models with random weights in the shapes of real ones: their text means nothing, but they cost the same.

The tokens are words of one form, so any generated text encodes to exactly the ids that it came from, and a client that
sends it back sends the same number of tokens.
"""

from __future__ import annotations

from pathlib import Path

SHAPES = {
    "smollm-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
    },
    "qwen2.5-0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
    "llama-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "llama-8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 4096,
    },
}

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }} {{ message.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)

SPECIAL = ("<|im_start|>", "<|im_end|>", "system ", "user ", "assistant ")


def word(number: int) -> str:
    """The text of token `number` after the special ones: five letters and a space."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    digits = []
    for _ in range(5):
        number, digit = divmod(number, 26)
        digits.append(letters[digit])
    return "".join(reversed(digits)) + " "


def text(tokens: int, start: int = 0) -> str:
    """A text of exactly `tokens` tokens; another `start` gives another text."""
    return "".join(word((start * 7919 + 31 * i) % 20000) for i in range(tokens))


def save(path: Path, shape: str, *, context_length: int, device: str = "cpu", dtype: str = "bfloat16") -> None:
    """Write a model of a shape into a directory, unless it is there. A GPU makes a large one far faster."""
    if (path / "config.json").exists():
        return
    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    size = SHAPES[shape]
    names = [*SPECIAL, *(word(i) for i in range(size["vocab_size"] - len(SPECIAL)))]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=names[-1]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("[a-z]{5} |[a-z]+ "), behavior="isolated")
    core.decoder = decoders.Fuse()
    core.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        **size, max_position_embeddings=context_length, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id
    )
    with torch.device(device):
        LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(path)
