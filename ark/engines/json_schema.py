"""References inside a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """What a ``$ref`` such as ``#/$defs/city`` stands for; None where it leads nowhere, or out of the document."""
    if not reference.startswith("#"):
        return None
    place: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list):
            place = place[int(name)] if name.isdecimal() and int(name) < len(place) else None
        else:
            place = place.get(name) if isinstance(place, Mapping) else None
    return place
