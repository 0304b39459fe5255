"""Look up the methods of OpenAI's client by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx2
import msgspec
import openai


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """A method of the client."""

    resource: tuple[str, ...]
    """The attributes that lead to it, such as ``chat``, ``completions``."""
    name: str
    parameters: frozenset[str]

    @property
    def streams(self) -> bool:
        return "stream" in self.parameters

    def arrange(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Move arguments that the method does not know into ``extra_body``."""
        known = {name: value for name, value in arguments.items() if name in self.parameters}
        unknown = {name: value for name, value in arguments.items() if name not in self.parameters}
        if unknown:
            known["extra_body"] = {**unknown, **known.get("extra_body", {})}
        return known

    def bind(self, client: openai.OpenAI | openai.AsyncOpenAI, *, raw: bool) -> Any:
        """The method of a client, or its variant that returns the raw reply."""
        resource: Any = client
        for name in self.resource:
            resource = getattr(resource, name)
        return getattr(resource.with_raw_response if raw else resource, self.name)


@lru_cache(maxsize=64)
def find_method(path: str) -> Method:
    """Raises ValueError when the client has no such method."""
    *resource, name = path.split(".")
    found: Any = _probe()
    try:
        for part in resource:
            found = getattr(found, part)
        function = getattr(found, name)
    except AttributeError:
        raise ValueError(f"OpenAI's client has no method {path!r}") from None
    if not resource or not inspect.ismethod(function):
        raise ValueError(f"{path!r} is no method of a resource of OpenAI's client")
    return Method(resource=tuple(resource), name=name, parameters=frozenset(inspect.signature(function).parameters))


@lru_cache(maxsize=1)
def _probe() -> openai.OpenAI:
    """A client that sends nothing: only its methods are inspected."""
    # Without a real transport it does not read any certificates.
    http = httpx2.Client(transport=httpx2.BaseTransport(), trust_env=False)
    return openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9", http_client=http)
