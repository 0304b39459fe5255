"""GET /health and /ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The server is alive."""

    status: Literal["ok"] = "ok"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Every model answers."""

    status: Literal["ready"] = "ready"
    models: Mapping[str, Literal["ready"]]
    """Each served model by name."""
