"""From a configured model to an engine. Importing this module imports transformers, which takes seconds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from ark.config import ConfigError, ModelConfig
from ark_backends.bge.card import HEADS, Card, read_card
from ark_backends.bge.encoder import Encoder
from ark_backends.bge.engine import BgeEngine
from ark_backends.bge.options import BgeOptions
from ark_backends.bge.pairs import PairReader
from ark_backends.bge.scorer import Scorer, read_head
from ark_backends.bge.tokens import Reader
from ark_backends.kit.devices import device
from ark_backends.kit.packed import pack
from ark_backends.kit.weights import files_of, resolve

log = logging.getLogger("ark.bge")


def open_model(model: ModelConfig, options: BgeOptions) -> tuple[BgeEngine, Reader, tuple[int, ...], bool]:
    """Find, load and check a model: its engine, not started yet, its tokenizer, its dimensions, and whether it has
    BGE-M3's heads. Raises ConfigError."""
    target = device(options.device)
    path = resolve(model.source, model.revision, also=files_of(model.task))
    try:
        return _open(model, options, path, target)
    except ConfigError as error:
        raise ConfigError(f"model {model.name!r}: {error}") from error


def _open(
    model: ModelConfig, options: BgeOptions, path: Path, target: torch.device
) -> tuple[BgeEngine, Reader, tuple[int, ...], bool]:
    card = read_card(path)
    pooling = options.pooling or card.pooling
    if pooling is None:
        pooling = "cls"
        log.warning("%s does not say how to pool: cls, as in FlagEmbedding, unless engine.pooling is set", path)
    normalize = next((choice for choice in (options.normalize, card.normalize) if choice is not None), True)
    some = [name for name in HEADS if (path / name).is_file()]
    if some and not card.heads:
        log.warning("%s has %s only: no sparse weights and no ColBERT vectors", path, some[0])
    dtype = _dtype(options.dtype, target, path)
    tokenizer, transformer = _load(path, dtype)
    heads = [_head(path / name, dtype).to(target) for name in HEADS] if card.heads else [None, None]
    sparse, colbert = heads
    transformer = transformer.to(target)
    length = _length(model, card, transformer, tokenizer)
    colbert_tokens = options.colbert_bytes // (4 * colbert.out_features) if colbert is not None else 0
    rows = transformer.get_input_embeddings().num_embeddings
    reader = Reader(tokenizer, max_length=length, rows=rows, colbert_tokens=colbert_tokens)
    if pack(transformer):
        log.info("%s: linear layers by oneDNN, which is faster here", model.name)
    encoder = Encoder(
        transformer,
        pooling=pooling,
        normalize=normalize,
        sparse_linear=sparse,
        colbert_linear=colbert,
        unused=_unused(tokenizer),
        padding=_padding(options, target),
    )
    dimensions = _dimensions(model, encoder.size)
    name, kind = type(transformer).__name__, str(encoder.dtype).removeprefix("torch.")
    sizes = f"{length} tokens, {encoder.size} numbers{', with padding' if encoder.padding else ''}"
    log.info("%s: %s on %s in %s, %s pooling, %s", model.name, name, target, kind, pooling, sizes)
    engine = BgeEngine(encoder, options, max_queue=model.max_queue, colbert_tokens=colbert_tokens, name=model.name)
    return engine, reader, dimensions, card.heads


def open_reranker(model: ModelConfig, options: BgeOptions) -> tuple[BgeEngine, PairReader]:
    """Find, load and check a reranker: its engine, not started yet, and its tokenizer. Raises ConfigError."""
    target = device(options.device)
    path = resolve(model.source, model.revision)
    try:
        if options.pooling is not None or options.normalize is not None:
            raise ConfigError("engine.pooling and engine.normalize are for embeddings; a reranker has neither")
        dtype = _dtype(options.dtype, target, path)
        tokenizer, whole = _load(path, dtype, AutoModelForSequenceClassification)
        whole = whole.to(target).eval().requires_grad_(False)
        transformer, head = whole.base_model, read_head(whole)
        length = _length(model, Card(), transformer, tokenizer)
        rows = transformer.get_input_embeddings().num_embeddings
        reader = PairReader(tokenizer, max_length=length, rows=rows)
    except ConfigError as error:
        raise ConfigError(f"model {model.name!r}: {error}") from error
    if pack(transformer):
        log.info("%s: linear layers by oneDNN, which is faster here", model.name)
    scorer = Scorer(transformer, head, padding=_padding(options, target))
    name, kind = type(whole).__name__, str(scorer.dtype).removeprefix("torch.")
    padded = ", with padding" if scorer.padding else ""
    log.info("%s: %s on %s in %s, %d tokens%s", model.name, name, target, kind, length, padded)
    return BgeEngine(scorer, options, max_queue=model.max_queue, name=model.name), reader


def _padding(options: BgeOptions, target: torch.device) -> bool:
    # On a GPU the many small calls of unpadded attention cost more than padding.
    return target.type != "cpu" if options.padding is None else options.padding


def _load(path: Path, dtype: torch.dtype, kind: Any = AutoModel) -> tuple[Any, Any]:
    """The tokenizer in a directory and its model, on the CPU.

    Raises ConfigError for what cannot be loaded, and for weights that transformers would fill up with random ones.
    """
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            transformer, report = kind.from_pretrained(
                path, dtype=dtype, output_loading_info=True, local_files_only=True
            )
    except Exception as error:  # whatever a broken file makes the libraries raise
        raise ConfigError(f"transformers cannot load {path}: {error}") from error
    # The pooler is no part of an embedding, and often left away.
    absent = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    if absent:
        raise ConfigError(f"the weights in {path} lack {len(absent)} parameters, such as {absent[0]}")
    return tokenizer, transformer


def _head(path: Path, dtype: torch.dtype) -> torch.nn.Linear:
    """One of BGE-M3's heads. Raises ConfigError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        outputs, inputs = state["weight"].shape
        head = torch.nn.Linear(inputs, outputs, dtype=dtype)
        head.load_state_dict(state)
    except Exception as error:  # as above
        raise ConfigError(f"{path} is not a head of BGE-M3: {error}") from error
    return head.requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Show no progress bars, and only the errors of transformers' messages."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()


def _dtype(name: str, target: torch.device, path: Path) -> torch.dtype:
    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        if chosen is torch.float16 and target.type == "cpu":
            raise ConfigError("engine.dtype = float16 is for GPUs: on a CPU it is slower and less exact than float32")
        return chosen
    if target.type == "cpu":
        return torch.float32
    # The configuration is read again with the model; here only this one word of it is needed.
    stored = '"bfloat16"' in (path / "config.json").read_text(errors="replace")
    return torch.bfloat16 if stored else torch.float16


def _length(model: ModelConfig, card: Card, transformer: Any, tokenizer: Any) -> int:
    """Tokens of one input: what the model was made for, unless the configuration asks for more or less; never more than
    it has positions for."""
    longest = int(getattr(transformer.config, "max_position_embeddings", None) or 512)
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    padding_index = getattr(table, "padding_idx", None)
    if padding_index is not None:
        # RoBERTa and its like begin to count behind the padding token's position.
        longest -= padding_index + 1
    longest = min(longest, int(tokenizer.model_max_length))
    if model.context_length is None:
        return min(longest, card.max_length or longest)
    if model.context_length > longest:
        log.warning("%s: context_length reduced from %d to the model's %d", model.name, model.context_length, longest)
    return min(longest, model.context_length)


def _dimensions(model: ModelConfig, size: int) -> tuple[int, ...]:
    """The model's own size, then the smaller ones of the configuration."""
    large = [dimensions for dimensions in model.dimensions if dimensions > size]
    if large:
        raise ConfigError(f"dimensions: {large[0]} is more than the {size} that the model has")
    return (size, *(dimensions for dimensions in dict.fromkeys(model.dimensions) if dimensions != size))


def _unused(tokenizer: Any) -> frozenset[int]:
    """Ids that BGE-M3 gives no weight."""
    names = ("cls_token_id", "eos_token_id", "pad_token_id", "unk_token_id")
    ids = (getattr(tokenizer, name, None) for name in names)
    return frozenset(token for token in ids if token is not None)
