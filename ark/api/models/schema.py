"""GET /models: OpenAI's shape, with ARK's details beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What ARK adds to a model's entry."""

    task: str
    backend: str
    state: Literal["loading", "ready", "failed"]
    alias_of: str | None
    """The served model that the name stands for, None for a served model itself."""
    aliases: Sequence[str]
    context_length: int | None = None
    """Tokens of prompt and reply together, or of one input to embed; None until the model is open."""
    reasoning: bool | None = None
    """Whether a chat model thinks before it answers; None until it is open, and for other models."""
    dimensions: Sequence[int] | None = None
    """Sizes that an embedding model's vectors can have, its own first; None until it is open, and for other models."""
    languages: Sequence[str] | None = None
    """Codes of the languages that a speech model knows; None until it is open, and for other models."""
    parameters: Sequence[str] | None
    """Request parameters that the model honours; None until it is open."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created: int
    ark: ModelDetails
    object: Literal["model"] = "model"
    owned_by: str = "ark"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    data: Sequence[Model]
    object: Literal["list"] = "list"
