"""What differs from engine to engine: how a job is asked for, and how its tokens come back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar

import httpx2
import msgspec

from ark.engines.chat import GenerationJob, Grammar, TokenBatch
from ark_backends.remote.client import Connection, EngineDown

UNLIKELY = -9999.0
"""The log-probability of a token of which nothing else is known, as at OpenAI."""

TOOLS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"})

FORMATS = TOOLS | {"response_format"}
"""Parameters that need a grammar."""


class Event(Protocol):
    """Of a stream."""

    error: Any


E = TypeVar("E", bound=Event)


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says of itself."""

    model: str
    context_length: int
    replies: int = 128
    """The most replies to one prompt."""
    detail: str = ""
    """For the log."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is asked for with, beside itself."""

    model: str
    salt: str
    """Of the owner: engines that have salts share state only within one."""
    priority: int | None = None
    """Smaller is earlier; None where the engine has no priorities."""
    stream: bool = True


class EngineAPI(Protocol):
    """The API of a kind of engine."""

    name: str
    path: str
    """Of the route that generates."""
    unsupported: frozenset[str]
    """Parameters that it does not honour, or not with ARK's meaning."""

    def describe(self, http: httpx2.Client, model: str | None) -> Description | None:
        """What the engine says of itself; None where it is another one. Raises httpx2's errors, and LookupError where
        it has no such model."""
        ...

    def tokenize(self, http: httpx2.Client, model: str, text: str) -> list[int]:
        """The ids of a text in which special tokens stand as text, without any that the engine adds."""
        ...

    def detokenize(self, http: httpx2.Client, model: str, ids: list[int]) -> str:
        """The text of ids, special tokens included."""
        ...

    def body(self, job: GenerationJob, asked: Asked) -> dict[str, Any]:
        """The request for a job."""
        ...

    def ids(self, reply: Any) -> list[int]:
        """The tokens of a reply that was not streamed."""
        ...

    def generate(self, engine: Connection, job: GenerationJob, asked: Asked) -> AsyncGenerator[TokenBatch, None]:
        """The batches of a job. Raises the errors of `ark_backends.remote.client`."""
        ...


_WHITESPACE = re.compile(r'"whitespace_pattern": "(?:[^"\\]|\\.)*"')


_SPACED = '"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "'


def with_usual_spaces(grammar: Grammar) -> Grammar:
    """The grammar with a space behind the colons and commas of JSON, as models write them, and no other white space.

    Older versions of llguidance let what a schema allows once be repeated, and models in doubt do so without end.
    """
    return msgspec.structs.replace(grammar, lark=_WHITESPACE.sub(_SPACED, grammar.lark))


def found(http: httpx2.Client, path: str) -> Any:
    """The JSON at a path; None where there is none. Raises httpx2's errors."""
    response = http.get(path)
    if response.status_code in (404, 405):
        return None
    response.raise_for_status()
    try:
        return response.json()
    except ValueError:
        return None


def posted(http: httpx2.Client, path: str, body: Any) -> Any:
    """The JSON of a reply. Raises httpx2's errors."""
    return http.post(path, json=body).raise_for_status().json()


def listed(models: Any, name: str | None) -> Any:
    """The entry of a model in what OpenAI's route lists, by default the first. Raises LookupError."""
    entries = models["data"]
    chosen = [entry for entry in entries if name in (None, entry["id"])]
    if not chosen:
        raise LookupError(f"there is no model {name!r}; there is: {', '.join(entry['id'] for entry in entries)}")
    return chosen[0]


def read(decode: Callable[[bytes], E], data: bytes) -> E:
    """An event of a stream. Raises EngineDown where it is an error, or none that can be read."""
    try:
        event = decode(data)
    except msgspec.MsgspecError as error:
        raise EngineDown(f"it sends an event that cannot be read: {error}") from error
    if event.error is not None:
        raise EngineDown(f"it sends an error: {str(event.error)[:500]}")
    return event


def seed(job: GenerationJob, bits: int) -> int | None:
    """The seed of a job, for engines whose seeds have fewer bits than ARK's."""
    if job.sampling.seed is None:
        return None
    return int.from_bytes(hashlib.blake2b(str(job.sampling.seed).encode(), digest_size=8).digest()) >> (64 - bits)
