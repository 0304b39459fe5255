"""The types of requests and replies as JSON schemas, from the Structs that read and write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, get_args

import msgspec

from tools.openapi.docstrings import field_texts, text

Schema = dict[str, Any]

_TEMPLATE = "#/components/schemas/{name}"
_PREFIX = _TEMPLATE.format(name="")


class Schemas:
    """The schemas of all `requests` and `replies`, each type once.

    A field with a default need not be sent in a request, and is always there in a reply; a type of both is read as
    that of a request. What is UNSET may be missing in either.
    """

    def __init__(self, requests: Iterable[Any], replies: Iterable[Any]) -> None:
        read = [part for kind in requests for part in _parts(kind)]
        written = [part for kind in replies for part in _parts(kind)]
        schemas, components = msgspec.json.schema_components([*read, *written], ref_template=_TEMPLATE)
        # By their text: not every type has a hash.
        self._schemas = {repr(kind): schema for kind, schema in zip([*read, *written], schemas, strict=True)}
        self.components: dict[str, Schema] = components
        structs = {kind.__name__: kind for kind in _structs([*read, *written])}
        sent = set(_names(schemas[: len(read)], components))
        for name, component in components.items():
            _end_patterns(component)
            _describe(component, structs[name])
            if name not in sent:
                _always(component)

    def of(self, kind: Any) -> Schema:
        """The schema of one of the types that were given."""
        schemas = [self._schemas[repr(part)] for part in _parts(kind)]
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _parts(kind: Any) -> tuple[Any, ...]:
    """The types of a union: msgspec takes no union of Structs whose objects do not tell which they are."""
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def _end_patterns(schema: Any) -> None:
    """To Python ``$`` also matches before a line break, so patterns end in ``\\Z``, which JSON Schema does not know."""
    if isinstance(schema, dict):
        if isinstance(pattern := schema.get("pattern"), str):
            schema["pattern"] = re.sub(r"\\Z$", "$", pattern)
        for one in schema.values():
            _end_patterns(one)
    elif isinstance(schema, list):
        for one in schema:
            _end_patterns(one)


def _describe(component: Schema, kind: type) -> None:
    # msgspec takes an inherited docstring for the class's own.
    component.pop("description", None)
    if said := text(kind):
        component["description"] = said
    for name, said in field_texts(kind).items():
        if name in component["properties"]:
            component["properties"][name]["description"] = said


def _always(component: Schema) -> None:
    properties: dict[str, Schema] = component["properties"]
    for name, schema in properties.items():
        if "default" in schema:
            del schema["default"]
            component["required"].append(name)


def _names(schema: Any, components: dict[str, Schema], seen: set[str] | None = None) -> Iterator[str]:
    """The components that a schema refers to, and those that they refer to."""
    seen = set() if seen is None else seen
    if isinstance(schema, list | tuple):
        for one in schema:
            yield from _names(one, components, seen)
    elif isinstance(schema, dict):
        yield from _names([*schema.values()], components, seen)
        name = str(schema.get("$ref", "")).removeprefix(_PREFIX)
        if name and name not in seen:
            seen.add(name)
            yield name
            yield from _names(components[name], components, seen)


def _structs(kinds: Iterable[Any]) -> set[type]:
    """The Structs that types consist of."""
    found: set[type] = set()

    def visit(info: Any) -> None:
        if isinstance(info, msgspec.inspect.StructType):
            if info.cls in found:
                return
            found.add(info.cls)
        if isinstance(info, tuple):
            for one in info:
                visit(one)
        elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field):
            for name in info.__struct_fields__:
                visit(getattr(info, name))

    visit(tuple(msgspec.inspect.multi_type_info(kinds)))
    return found
