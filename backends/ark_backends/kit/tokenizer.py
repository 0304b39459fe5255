"""Text and ids of a model: the wrapper around a transformers fast tokenizer that the chat backends share."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from tokenizers import Tokenizer as Core
from transformers import AutoTokenizer

from ark.config import ConfigError
from ark.errors import BadRequest
from ark_backends.kit.detokenizer import Detokenizer
from ark_backends.kit.token_bytes import token_table

PARSED = re.compile(r"think|thought|reason|tool|function|python_tag|call|args|channel", re.IGNORECASE)
"""Special tokens that a parser of replies looks for: they stay in the text of a stream."""

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>")
"""Tokens that end a turn in the known chat templates, of which not every model's configuration says so."""

RESERVED = frozenset(
    {"messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize",
     "continue_final_message", "return_tensors", "return_dict", "padding", "truncation", "max_length",
     "tokenizer_kwargs", "return_assistant_tokens_mask", "self"}
)  # fmt: skip


class HFTokenizer:
    """`ark.engines.chat.Tokenizer` over a transformers fast tokenizer. Safe to call from any thread.

    Encoding and decoding use the Rust tokenizer underneath directly: transformers' own methods set its truncation and
    padding at every call, which is state that threads would share.
    """

    def __init__(self, wrapped: Any, stop_token_ids: Collection[int] = ()) -> None:
        self._wrapped = wrapped
        self._core: Core = wrapped.backend_tokenizer
        self._core.no_truncation()
        self._core.no_padding()
        self._vocab_size = len(wrapped)
        added = self._core.get_added_tokens_decoder().values()
        # Added tokens that are neither may be any text that is frequent: line breaks, HTML.
        self._special_texts = frozenset(t.content for t in added if t.special or PARSED.search(t.content))
        special = {i: t.content for i, t in self._core.get_added_tokens_decoder().items() if t.special}
        self._hidden = frozenset(i for i, text in special.items() if not PARSED.search(text))
        template = self.chat_template or ""
        ends = {i for i, text in special.items() if text in TURN_ENDS and text in template}
        self._stop_token_ids = frozenset(stop_token_ids) | ends

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return self._stop_token_ids

    @property
    def special_texts(self) -> frozenset[str]:
        return self._special_texts

    @property
    def chat_template(self) -> str | None:
        template = self._wrapped.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        return template if isinstance(template, str) else None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as the chat template writes it. Raises BadRequest in the template's own words."""
        more = dict(template_kwargs or {})
        taken = sorted(RESERVED & more.keys())
        if taken:
            names = ", ".join(taken)
            raise BadRequest(f"Template arguments cannot be called {names}.", param="chat_template_kwargs")
        if not messages:
            raise BadRequest("At least one message is needed.", param="messages")
        if self._wrapped.chat_template is None:
            raise BadRequest("This model has no chat template.", code="no_chat_template")
        try:
            text: str = self._wrapped.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] if tools else None,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
                **more,
            )
        except TemplateError as error:
            raise BadRequest(f"The model's chat template refuses these messages: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BadRequest(f"The model's chat template cannot write these messages: {error}") from error
        return text

    def encode(self, text: str) -> list[int]:
        """Ids of text. Halves of surrogate pairs are joined, and U+FFFD stands for one that is alone."""
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = self._core.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        return self._decode(token_ids)

    def token_bytes(self, token_id: int) -> bytes:
        """What one id adds to a text; nothing for an id that only pads the vocabulary."""
        return self.tokens[token_id] if 0 <= token_id < len(self.tokens) else b""

    @cached_property
    def tokens(self) -> list[bytes]:
        """The bytes of every id."""
        return token_table(self._core)

    @property
    def hidden(self) -> frozenset[int]:
        """Special ids that have no text in a reply."""
        return self._hidden

    def stream(self) -> Detokenizer:
        """A decoder for one reply; special tokens give no text, unless a parser looks for them."""
        return Detokenizer(self._decode, self._hidden)

    def _decode(self, token_ids: Sequence[int]) -> str:
        text: str = self._core.decode(list(token_ids), skip_special_tokens=False)
        return text


def load_tokenizer(path: Path) -> HFTokenizer:
    """The tokenizer in a model's directory. Raises ConfigError."""
    try:
        wrapped = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # tokenizers raises bare exceptions for a broken file
        raise ConfigError(f"cannot load a tokenizer from {path}: {error}") from error
    if not getattr(wrapped, "is_fast", False):
        raise ConfigError(f"the tokenizer in {path} has no tokenizer.json and cannot be made into a fast one")
    stops = set(_eos(path / "generation_config.json")) | set(_eos(path / "config.json"))
    if wrapped.eos_token_id is not None:
        stops.add(wrapped.eos_token_id)
    tokenizer = HFTokenizer(wrapped, stops)
    _check_template(tokenizer, path)
    return tokenizer


def _check_template(tokenizer: HFTokenizer, path: Path) -> None:
    """Refuse a template that can write nothing at all; it would be told to every client as a mistake of theirs."""
    try:
        tokenizer.render([{"role": "user", "content": "x"}])
    except BadRequest as error:
        # A template may want other messages than this one.
        if isinstance(error.__cause__, TemplateSyntaxError):
            raise ConfigError(f"the chat template in {path} is broken: {error.__cause__}") from error


def _eos(file: Path) -> list[int]:
    """`eos_token_id` of a configuration file: none, one or several."""
    try:
        value = json.loads(file.read_bytes()).get("eos_token_id")
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{file} is not a JSON object: {error}") from error
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int)]
