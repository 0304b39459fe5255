"""Small random rerankers with the right shapes, generated when needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = [f"w{number}" for number in range(60)]
LENGTH = 64


def save_tiny_reranker(path: Path, kind: str = "xlm_roberta", **more: Any) -> Path:
    """Write a classifier of one label and a tokenizer of `WORDS` into a directory: "xlm_roberta" as bge-reranker is, or
    "bert", whose documents have a token type of their own."""
    import torch
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        XLMRobertaConfig,
        XLMRobertaForSequenceClassification,
    )

    torch.manual_seed(5)
    save_tokenizer(path, types=kind == "bert")
    fields = {
        "vocab_size": 4 + len(WORDS),
        "num_labels": 1,
        "pad_token_id": 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "initializer_range": 0.3,
        **more,
    }
    if kind == "bert":
        BertForSequenceClassification(BertConfig(max_position_embeddings=LENGTH, **fields)).save_pretrained(path)
    else:
        # Positions start after that of the padding token.
        config = XLMRobertaConfig(max_position_embeddings=LENGTH + 2, bos_token_id=0, eos_token_id=2, **fields)
        XLMRobertaForSequenceClassification(config).save_pretrained(path)
    return path


def save_tokenizer(path: Path, *, types: bool = False) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>"]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names + WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1" if types else "<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    named: dict[str, Any] = dict(zip(("cls_token", "pad_token", "sep_token", "unk_token"), names, strict=True))
    if types:
        named["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", model_max_length=LENGTH, **named
    )
    wrapped.save_pretrained(path)
