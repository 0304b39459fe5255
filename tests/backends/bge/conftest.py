"""Small random encoders in directories, and engines over them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from embedding_jobs import configured
from fixture_models import real_model

WORDS = [f"w{number}" for number in range(60)]


@pytest.fixture(scope="session")
def minilm() -> Path:
    return real_model("embedding")


def save_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>"]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names + WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=64,
    )
    wrapped.save_pretrained(path)


@pytest.fixture(scope="session")
def m3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random XLM-RoBERTa with BGE-M3's heads; its ColBERT vectors have a size of their own."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    path = tmp_path_factory.mktemp("m3")
    torch.manual_seed(3)
    config = XLMRobertaConfig(
        vocab_size=4 + len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=66,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        initializer_range=0.3,
    )
    XLMRobertaModel(config).save_pretrained(path)
    save_tokenizer(path)
    torch.save(torch.nn.Linear(32, 24).state_dict(), path / "colbert_linear.pt")
    torch.save(torch.nn.Linear(32, 1).state_dict(), path / "sparse_linear.pt")
    return path


@pytest.fixture
def copied(m3: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the small model without some files, and with others as JSON."""

    def copy(*without: str, **written: Any) -> Path:
        for file in m3.iterdir():
            if file.name not in without:
                (tmp_path / file.name).write_bytes(file.read_bytes())
        for name, value in written.items():
            place = tmp_path / name.replace("__", "/")
            place.parent.mkdir(exist_ok=True)
            place.with_suffix(".json").write_text(json.dumps(value))
        return tmp_path

    return copy


Opened = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def opened() -> Opened:
    """A backend from a directory, closed behind the test."""
    from ark_backends.bge import Bge

    @asynccontextmanager
    async def open_model(path: Path, **more: Any) -> AsyncIterator[Bge]:
        backend = await Bge.open(configured(path, **more))
        try:
            yield backend
        finally:
            await backend.close()

    return open_model
