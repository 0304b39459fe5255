"""What must hold of a reply, in a call file: checks of its values, and the error that it must be."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET

Profile = Literal["openai", "ark", "document", "state"]
PROFILES: tuple[Profile, ...] = ("openai", "ark", "document", "state")

TypeName = Literal["string", "integer", "number", "boolean", "object", "array", "null"]


class Cosine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The cosine between the vector at `at` and another one, which is at the path `to`."""

    to: str
    min: float = -1.0
    max: float = 1.0
    over: str | None = None
    """A third vector's path: `to` is nearer than this one."""


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold of the values that the path `at` selects: of each of them, and of at least one.

    `values`, `count`, `all_same`, `distinct` and `sorted` look at all of them together.
    """

    at: str
    profile: Profile | tuple[Profile, ...] | None = None
    """The check is made in these profiles only; in all of the case's when it is not set."""

    present: bool | None = None
    """False: the path selects nothing."""
    equals: Any = UNSET
    not_equals: Any = UNSET
    one_of: tuple[Any, ...] | None = None
    type: TypeName | tuple[TypeName, ...] | None = None
    matches: str | None = None
    """A regular expression that is found in the text."""
    contains: Any = UNSET
    """A part of the text, an element of the list or a key of the object."""
    lacks: Any = UNSET
    """Not so."""
    length: int | str | None = None
    min_length: int | None = None
    max_length: int | None = None
    min: float | str | None = None
    max: float | str | None = None
    keys: tuple[str, ...] | None = None
    """The object has these keys and no others."""
    same_as: str | None = None
    """The value of another path of the same reply."""
    sum_of: tuple[str, ...] | None = None
    """The sum of what these paths select."""
    close_to: Any = UNSET
    """A number, or a list of numbers element by element."""
    within: float = 1e-4
    """How close."""
    norm: float | None = None
    """The length of a vector, `within` as close."""
    cosine: Cosine | None = None
    json: tuple[Check, ...] | None = None
    """The text is JSON, of which these hold; the path ``$`` is all of it."""
    each: tuple[Check, ...] | None = None
    """These hold of each value; their paths begin at the value."""

    values: tuple[Any, ...] | None = None
    count: int | str | None = None
    all_same: bool | None = None
    distinct: bool | None = None
    sorted: Literal["ascending", "descending"] | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"kind": "class"}):
    """The error that the client must raise. What is not said is not looked at."""

    status: int | tuple[int, ...] | None = None
    kind: str | tuple[str, ...] | None = None
    """Name of the client's class, such as ``BadRequestError``. Written ``class``."""
    type: str | tuple[str, ...] | None = None
    code: str | tuple[str, ...] | None = None
    param: str | tuple[str, ...] | None = None
    message: str | None = None
    """A regular expression that is found in it."""
