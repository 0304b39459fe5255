"""What happens to a parameter that the serving model cannot honour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ark.engines.backend import Capabilities
from ark.engines.parameters import Table
from ark.errors import UnsupportedParameter


class NamesModel(Protocol):
    """A decoded request."""

    @property
    def model(self) -> str: ...


def check(body: NamesModel, table: Table, capabilities: Capabilities, *, ignore: bool) -> list[str]:
    """Names of the parameters to ignore: their values would change the answer, and the model cannot honour them.

    Raises UnsupportedParameter for the first one unless `ignore` is set.
    """
    names = [
        name
        for name, row in table.items()
        if name not in capabilities.parameters
        and (value := getattr(body, name, None)) is not None
        and not row.is_neutral(value)
    ]
    if names and not ignore:
        raise UnsupportedParameter(f"The model '{body.model}' does not support '{names[0]}'.", param=names[0])
    return names


def ignored_header(names: Sequence[str]) -> list[tuple[str, str]]:
    """The header that tells a client which of its parameters were dropped; none where there are none."""
    return [("x-ark-ignored", ", ".join(names))] if names else []
