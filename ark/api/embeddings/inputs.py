"""The four forms of `input`, made one: a list of texts, or of lists of token ids."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ark.engines.parameters import MAX_INPUTS
from ark.errors import APIError, invalid_value


class Inputs(msgspec.Struct, frozen=True):
    """What a request asks to embed."""

    items: Sequence[str | Sequence[int]]
    single: bool = False
    """The request has one input, and not a list of inputs."""

    def place(self, index: int, token: int | None = None) -> str:
        """Where an item, or one id of it, stands in the request: ``input[3][2]``."""
        item = "input" if self.single else f"input[{index}]"
        return item if token is None else f"{item}[{token}]"

    def rename_param(self, error: APIError) -> None:
        """Say ``input`` in an error that a backend raises about ``input[0]``, where there is one input only."""
        if self.single and error.param is not None and error.param.startswith("input[0]"):
            param = "input" + error.param.removeprefix("input[0]")
            error.message = error.message.replace(error.param, param)
            error.param = param


def read_inputs(value: str | list[str | int | list[int]]) -> Inputs:
    """The inputs of a decoded request. Raises BadRequest for a list of more than one kind, or of too many inputs."""
    if isinstance(value, str):
        return Inputs([value], single=True)
    texts: list[str | Sequence[int]] = [item for item in value if isinstance(item, str)]
    lists: list[str | Sequence[int]] = [item for item in value if isinstance(item, list)]
    ids = [item for item in value if isinstance(item, int)]
    if len(ids) == len(value):
        return Inputs([ids], single=True)
    items = texts if len(texts) == len(value) else lists
    if len(items) < len(value):
        first = type(value[0])
        index = next(number for number, item in enumerate(value) if type(item) is not first)
        raise invalid_value(
            f"input[{index}]", "a list is of texts, of token ids, or of lists of token ids, not of several."
        )
    if len(value) > MAX_INPUTS:
        raise invalid_value("input", f"there are {len(value)} inputs; a request may have {MAX_INPUTS}.")
    return Inputs(items)
