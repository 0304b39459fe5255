"""Lists of stored objects, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import parse_qs

import msgspec

from ark.errors import invalid_value


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list."""

    data: Sequence[msgspec.Raw]
    first_id: str
    """Empty where there is nothing, as `last_id`."""
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


def page(objects: Mapping[str, bytes], query: str, *, order: str = "desc", most: int = 100) -> Page:
    """The page that a query asks for by `limit`, `order` and `after`. `objects` are JSON by id, the oldest first; the
    page is in `order` where the query does not say. Raises BadRequest."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = asked.get("limit", "20")
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= most:
        raise invalid_value("limit", f"It is a number from 1 to {most}.")
    order = asked.get("order", order)
    if order not in ("asc", "desc"):
        raise invalid_value("order", "It is 'asc' or 'desc'.")
    names, start = list(objects)[:: 1 if order == "asc" else -1], 0
    if "after" in asked:
        if asked["after"] not in objects:
            raise invalid_value("after", "There is nothing of this id in the list.")
        start = names.index(asked["after"]) + 1
    shown = names[start : start + int(limit)]
    return Page(
        data=[msgspec.Raw(objects[name]) for name in shown],
        first_id=shown[0] if shown else "",
        last_id=shown[-1] if shown else "",
        has_more=start + len(shown) < len(names),
    )
