"""The forward pass of a reranker: rows of token ids in, a number for each out."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch

from ark.config import ConfigError
from ark.engines.rerank import Score
from ark_backends.bge.attention import Run
from ark_backends.bge.encoder import HALF_TOLERANCE, TOLERANCE, Encoder, Item, NotFinite


class Head:
    """From the hidden state of the first token to the logit, as in BERT's and RoBERTa's classifiers."""

    def __init__(self, model: Any) -> None:
        """`model` is a classifier of transformers, ready to compute."""
        self.pooler = getattr(model.base_model, "pooler", None)
        self.classifier = model.classifier

    def __call__(self, first: torch.Tensor) -> torch.Tensor:
        """The logits, (rows,), of (rows, size)."""
        states = first[:, None]
        logits: torch.Tensor = self.classifier(states if self.pooler is None else self.pooler(states))
        return logits.reshape(len(first))


def read_head(model: Any) -> Head:
    """The head of a classifier on its device. Raises ConfigError for a model whose logits come about in another way."""
    name = type(model).__name__
    if model.config.num_labels != 1:
        raise ConfigError(f"its {name} has {model.config.num_labels} labels; a reranker has one")
    draw = random.Random(0)
    ids = [[draw.randrange(min(int(model.config.vocab_size), 1000)) for _ in range(9)] for _ in range(3)]
    try:
        head = Head(model)
        with torch.inference_mode():
            rows = torch.tensor(ids, device=model.device)
            expected = model(input_ids=rows).logits[:, 0]
            got = head(model.base_model(input_ids=rows).last_hidden_state[:, 0])
        tolerance = TOLERANCE.get(model.dtype, HALF_TOLERANCE)
        same = torch.allclose(got.float(), expected.float(), rtol=tolerance, atol=tolerance)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ConfigError(f"the backend bge does not compute the head of {name}: {error}") from error
    if not same:
        raise ConfigError(f"the backend bge does not compute the head of {name}: its logits differ")
    return head


class Scorer(Encoder):
    """An encoder with the head of a classifier that has one label."""

    def __init__(self, model: Any, head: Head, *, padding: bool = False) -> None:
        self._head: Head | None = head
        super().__init__(model, pooling="cls", normalize=False, padding=padding)

    def unload(self) -> None:
        super().unload()
        self._head = None

    def _read_out(self, items: Sequence[Item], hidden: torch.Tensor, found: Sequence[Run]) -> list[Any]:
        """A `Score`, or `NotFinite`, for each row."""
        assert self._head is not None
        starts = [start for run in found for start in range(run.start, run.end, run.length)]
        logits = self._head(hidden[starts]).float().tolist()
        return [
            Score(score=logit, tokens=len(item.row)) if math.isfinite(logit) else NotFinite()
            for item, logit in zip(items, logits, strict=True)
        ]
