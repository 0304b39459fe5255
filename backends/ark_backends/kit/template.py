"""Chat templates, in the Jinja that transformers has made theirs, without transformers: its import takes seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from tokenizers import AddedToken
from tokenizers import Tokenizer as Core

REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names that templates have for a message's reasoning."""


class TemplatedTokenizer:
    """A Rust tokenizer and a chat template: as much of transformers' fast tokenizers as `HFTokenizer` needs."""

    def __init__(self, core: Core, chat_template: str | None, special_tokens: Mapping[str, str]) -> None:
        """`special_tokens` are the texts that the template knows as ``bos_token`` and the like."""
        known = {token.content for token in core.get_added_tokens_decoder().values()}
        missing = [text for text in special_tokens.values() if text not in known]
        core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in missing])
        self.backend_tokenizer = core
        self.chat_template = chat_template
        self._special_tokens = dict(special_tokens)
        self._compiled: Template | None = None

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], *, tokenize: bool, **values: Any) -> str:
        """The conversation as the template writes it. Raises jinja2.TemplateError."""
        assert self.chat_template is not None
        assert not tokenize
        if self._compiled is None:
            self._compiled = _environment().from_string(self.chat_template)
        return self._compiled.render({**self._special_tokens, **values, "messages": [_shown(one) for one in messages]})


def _shown(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: without what is None, and with its reasoning under the names they look for."""
    found = {name: value for name, value in message.items() if value is not None}
    reasoning = next((found[name] for name in REASONING if name in found), None)
    return found if reasoning is None else {"thinking": reasoning, **found, "reasoning_content": reasoning}


def _environment() -> ImmutableSandboxedEnvironment:
    # Templates come with models, from anywhere.
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    made.filters["tojson"] = _to_json
    made.globals |= {"raise_exception": _raise, "strftime_now": _now, "dict": _dict, "namespace": _Namespace}
    return made


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """Jinja's own escapes what HTML would read as its own."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _dict(*values: Any, **named: Any) -> dict[Any, Any]:
    """A function, because the class has attributes."""
    return dict(*values, **named)


class _Namespace(Namespace):
    """Attributes that begin with an underscore would be a way to Python's own."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__()
        for name, value in dict(*values, **named).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"a namespace cannot have the attribute {name!r}")
        super().__setitem__(name, value)


class _Generation(Extension):
    """``{% generation %}`` marks what a model has written, for training."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
