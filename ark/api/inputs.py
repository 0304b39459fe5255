"""The four forms of `input` and `prompt`, made one: a list of texts, or of lists of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ark.engines.parameters import MAX_INPUTS
from ark.errors import APIError, invalid_value


class Inputs(msgspec.Struct, frozen=True):
    """What a request asks to embed, or to continue."""

    items: Sequence[str | Sequence[int]]
    param: str = "input"
    """The field that they stand in."""
    single: bool = False
    """The request has one input, and not a list of inputs."""

    def place(self, index: int, token: int | None = None) -> str:
        """Where an item, or one id of it, stands in the request: ``input[3][2]``."""
        item = self.param if self.single else f"{self.param}[{index}]"
        return item if token is None else f"{item}[{token}]"

    def rename_param(self, error: APIError) -> None:
        """Say ``input`` in an error that a backend raises about ``input[0]``, where there is one input only."""
        first = f"{self.param}[0]"
        if self.single and error.param is not None and error.param.startswith(first):
            param = self.param + error.param.removeprefix(first)
            error.message = error.message.replace(error.param, param)
            error.param = param


def read_inputs(value: str | list[str | int | list[int]], param: str = "input") -> Inputs:
    """The inputs of a decoded request. Raises BadRequest for a list of more than one kind, or of too many inputs."""
    if isinstance(value, str):
        return Inputs([value], param, single=True)
    texts: list[str | Sequence[int]] = [item for item in value if isinstance(item, str)]
    lists: list[str | Sequence[int]] = [item for item in value if isinstance(item, list)]
    ids = [item for item in value if isinstance(item, int)]
    if len(ids) == len(value):
        return Inputs([ids], param, single=True)
    items = texts if len(texts) == len(value) else lists
    if len(items) < len(value):
        first = type(value[0])
        index = next(number for number, item in enumerate(value) if type(item) is not first)
        raise invalid_value(
            f"{param}[{index}]", "a list is of texts, of token ids, or of lists of token ids, not of several."
        )
    check_count(value, param)
    return Inputs(items, param)


def check_count(items: Sequence[object], param: str) -> None:
    """Raises BadRequest for more than one request may have."""
    if len(items) > MAX_INPUTS:
        raise invalid_value(param, f"there are {len(items)}; a request may have {MAX_INPUTS}.")
