"""What the code says of itself, as text for people who read the API and not the code."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from itertools import pairwise

_STATUS = re.compile(r"\d{3}: (?P<said>[^;]*?)(; `.*|\.)", re.DOTALL)
_NONE = re.compile(r"\bNone\b")
_RAISES = re.compile(r"\s*\bRaises [^.]*\.")


def text(thing: object) -> str:
    """The docstring's text, without what it says of exceptions; empty where there is none of its own."""
    own = thing.__dict__.get("__doc__") if isinstance(thing, type) else getattr(thing, "__doc__", None)
    return _plain(own or "")


def error_text(kind: type[Exception]) -> str:
    """When an error of `ark.errors` is raised, as its docstring says behind the status; empty where it does not."""
    found = _STATUS.fullmatch(text(kind))
    return "" if found is None else f"{found['said'][:1].upper()}{found['said'][1:]}."


def field_texts(kind: type) -> dict[str, str]:
    """The docstring behind each field of a class, inherited ones too. Python drops them, so the source is read; where
    there is no source there are none."""
    texts: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError):
            continue
        (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
        for field, behind in pairwise(body):
            match field, behind:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    texts[name] = _plain(said)
    return texts


def _plain(docstring: str) -> str:
    """A docstring as CommonMark that speaks of JSON's values."""
    said = _RAISES.sub("", inspect.cleandoc(docstring)).strip()
    return _NONE.sub("null", said).replace("``", "`")
