"""The fields of a msgspec Struct as the cells of a table: values, default and docstring."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

import msgspec


def values(kind: Any) -> str:
    """The type and range of a field, from its type."""
    return "; ".join(_values(msgspec.inspect.type_info(kind)))


def _values(info: Any) -> list[str]:
    types = msgspec.inspect
    info = info.type if isinstance(info, types.Metadata) else info
    match info:
        case types.UnionType():
            return list(dict.fromkeys(text for one in info.types for text in _values(one)))
        case types.LiteralType():
            # The type has lost the order of the code.
            return [", ".join(sorted(str(value) for value in info.values))]
        case types.IntType():
            return [f"integer {_range(info)}".strip()]
        case types.FloatType():
            return [f"number {_range(info)}".strip()]
        case types.ListType() | types.VarTupleType():
            item = info.item_type
            kinds = item.types if isinstance(item, types.UnionType) else (item,)
            return [f"list of {' or '.join(_plural(kind) for kind in kinds)}"]
    names: dict[type, str] = {types.StrType: "text", types.BoolType: "true, false", types.NoneType: ""}
    name = names.get(type(info), "object")
    return [name] if name else []


def _plural(info: Any) -> str:
    (text,) = _values(info)
    if text.startswith("list "):
        return text.replace("list", "lists", 1)
    return f"{text.split()[0]}s" if text.split()[0] in ("integer", "number", "object", "text") else text


def _range(info: Any) -> str:
    low = f"over {info.gt:g}" if info.gt is not None else "" if info.ge is None else _number(info.ge)
    high = f"below {info.lt:g}" if info.lt is not None else "" if info.le is None else _number(info.le)
    if low and high:
        return f"{low} to {high}"
    return low if info.gt is not None else f"from {low}" if low else high


def _number(value: float) -> str:
    for power in (31, 63):
        if abs(value) in (2**power, 2**power - 1):
            return f"{'-' if value < 0 else ''}2^{power}{'' if value < 0 else ' - 1'}"
    return f"{value:.10g}"


def docstrings(kind: type) -> dict[str, list[str]]:
    """Map each field, inherited ones included, to the paragraphs of its docstring, each on one line fit for a table."""
    base = kind.__base__
    found = {} if base is None or base in (object, msgspec.Struct) else docstrings(base)
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)):
            continue
        if isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            paragraphs = inspect.cleandoc(text.value.value).split("\n\n")
            found[field.target.id] = [_line(paragraph) for paragraph in paragraphs]
    return found


def _line(paragraph: str) -> str:
    return " ".join(paragraph.split()).replace("``", "`").replace("|", "\\|")


def default(field: msgspec.structs.FieldInfo) -> str:
    """A default value as ``ark.toml`` would have it."""
    if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT:
        return "has to be set"
    value: Any = field.default
    if value is None or value in ((), {}) or value is msgspec.NODEFAULT or isinstance(value, msgspec.Struct):
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 2**20 and value % 2**20 == 0:
        return f"`{value}` ({value >> 20} MiB)"
    if isinstance(value, float):
        return f"`{value:.10g}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"
