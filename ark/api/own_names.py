"""Errors about a chat's parameters, said in the words of another API that is read as a chat."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ark.errors import APIError

Names = Sequence[tuple[re.Pattern[str], str]]
"""Names of a chat's parameters, and what they are in the other API."""

_INDEXED = re.compile(r"^(?P<list>messages|tools)\[(?P<index>\d+)\](\.function|\.custom)?")


@contextmanager
def own_names(places: Sequence[str], tools: Sequence[str], names: Names) -> Iterator[None]:
    """Let errors name the request's own parameters. `places` are those of the messages, `tools` of the tools."""
    try:
        yield
    except APIError as error:
        if error.param is not None:
            param = own_name(error.param, places, tools, names)
            error.message = error.message.replace(f"'{error.param}'", f"'{param}'")
            error.param = param
        raise


def own_name(name: str, places: Sequence[str], tools: Sequence[str], names: Names) -> str:
    """A chat's parameter as the request's own."""
    if found := _INDEXED.match(name):
        listed = places if found["list"] == "messages" else tools
        index = int(found["index"])
        return listed[index] + name[found.end() :] if index < len(listed) else name
    for pattern, own in names:
        name = pattern.sub(own, name)
    return name
