"""Dialogues as batches of token ids: rows of like length, padded on the right."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tools.training.chat import generate, render
from tools.training.chat.dialogue import Dialogue
from tools.training.chat.lexicon import Lexicon


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum. `until` is a share of all steps; `long` of the dialogues are long."""

    until: float
    limit: int
    usual: generate.Shape
    long: float = 0.0
    longest: generate.Shape | None = None


CURRICULUM = (
    Stage(0.08, 256, generate.Shape(60, 600)),
    Stage(0.22, 512, generate.Shape(60, 1300)),
    Stage(0.45, 2048, generate.Shape(60, 1600), 0.15, generate.Shape(2500, 6500)),
    Stage(1.00, 2048, generate.Shape(60, 1600), 0.22, generate.Shape(2500, 6500)),
)


@dataclass(frozen=True)
class Batch:
    """One step's tokens. `where` and `targets` say what is to be learned."""

    ids: Tensor
    positions: Tensor
    where: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Row:
    ids: list[int]
    learn: list[bool]
    positions: list[int]


def row(tokenizer: Tokenizer, rng: random.Random, dialogue: Dialogue, context: int) -> Row:
    """One dialogue as ids. A third of the rows has gaps in its positions, which teaches distances."""
    ids: list[int] = []
    learn: list[bool] = []
    positions: list[int] = []
    parts = render.pieces(dialogue, rng)
    encoded = tokenizer.encode_batch([text for text, _ in parts], add_special_tokens=False)
    room = context - sum(len(e.ids) for e in encoded)
    position = 0
    if rng.random() < 0.33 and room > 8:
        budget = rng.randint(0, min(room, 2 * rng.choice((200, 800, 2000))))
        position = rng.randint(0, budget // 2)
        budget -= position
    else:
        budget = 0
    for (_, wanted), encoding in zip(parts, encoded, strict=True):
        if budget > 0 and not wanted and rng.random() < 0.3:
            gap = rng.randint(0, budget)
            position += gap
            budget -= gap
        count = len(encoding.ids)
        ids += encoding.ids
        learn += [wanted] * count
        positions += range(position, position + count)
        position += count
    return Row(ids, learn, positions)


def _collate(rows: list[Row], pad: int) -> Batch:
    longest = max(len(r.ids) for r in rows)
    ids = torch.full((len(rows), longest), pad)
    positions = torch.zeros((len(rows), longest), dtype=torch.long)
    where: list[int] = []
    targets: list[int] = []
    for i, r in enumerate(rows):
        ids[i, : len(r.ids)] = torch.tensor(r.ids)
        positions[i, : len(r.ids)] = torch.tensor(r.positions)
        for j in range(1, len(r.ids)):
            if r.learn[j]:
                where.append(i * longest + j - 1)
                targets.append(r.ids[j])
    return Batch(ids, positions, torch.tensor(where), torch.tensor(targets))


def round_of(
    tokenizer: Tokenizer, stage: Stage, seed: str, *, count: int, tokens: int, context: int
) -> Iterator[Batch]:
    """`count` batches of about `tokens` tokens, the same for the same seed."""
    rng = random.Random(seed)
    lexicon = Lexicon("train")
    rows: list[Row] = []
    total = 0
    # A little more than needed: batches are cut from the sorted rows, and the surplus is dropped.
    while total < tokens * (count + 2):
        shape = stage.longest if rng.random() < stage.long and stage.longest else stage.usual
        made = row(tokenizer, rng, generate.dialogue(rng, lexicon, shape), context)
        if len(made.ids) <= stage.limit and any(made.learn):
            rows.append(made)
            total += len(made.ids)
    rows.sort(key=lambda r: len(r.ids))
    groups: list[list[Row]] = []
    group: list[Row] = []
    for r in rows:
        if group and len(r.ids) * (len(group) + 1) > tokens * 1.1:
            groups.append(group)
            group = []
        group.append(r)
    groups.append(group)
    rng.shuffle(groups)
    pad = tokenizer.token_to_id("<|endoftext|>") or 0
    for group in groups[:count]:
        yield _collate(group, pad)
