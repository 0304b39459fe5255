"""Messages and tools that speak of special tokens, read as what they say and not as what these tokens do.

A template's text and a client's are encoded together, so ``<|im_end|>`` in a message would end it and let its author
go on in another role. Where a client's text has such a token, a mark is put inside it before the template is rendered.
Text is encoded in the pieces between the marks, none of which is a special token any more. All other text has no marks,
and exactly the ids that it always had.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import msgspec

from ark.engines.chat import Tokenizer
from ark.engines.token_budget import CHUNK_SIZE, over_budget
from ark.errors import BadRequest, ContextLengthExceeded
from ark.sessions.transcript import unpack_tokens

# Letters and digits, which no template trims, escapes or splits at. Whoever writes it into a message gains nothing:
# there it only divides text. It is the same for ever, because transcripts keep digests of renderings.
_MARK = "ark7f1d9c0e64b85a23mark"

_IDS = "ark3c9b5e20d7f64a18ids"
_WRITTEN_IDS = re.compile(rf"{_IDS}([0-9a-f]*)\.")
"""Token ids in a rendering, as a message's `IDS` says them. Messages cannot write it: it is marked as special tokens
are."""

IDS = "reasoning_ids"
"""Field of a message: the ids of its reasoning, packed and in hexadecimal. They stand before its content, whatever the
template makes of the reasoning of earlier replies."""

# Stands for arguments that are text, in one rendering. The quote at its end shows what wrote it: in JSON it is escaped.
_ARGUMENTS = f"ark-{secrets.token_hex(16)}-"
_WRITTEN_ARGUMENTS = re.compile(rf'"{_ARGUMENTS}(\d+)\\""|{_ARGUMENTS}(\d+)"')

_STRANGERS = frozenset({"user", "tool"})
"""Roles whose content is not written by whoever writes the prompts. They may not even write the tags of reasoning and
tool calls, which a system message explains and an assistant's may carry."""

Value = TypeVar("Value")


class Verbatim:
    """Text and ids of one model where a client's text is what it says. Safe to call from any thread."""

    def __init__(self, tokenizer: Tokenizer, context_length: int) -> None:
        self._tokenizer = tokenizer
        self._context_length = context_length
        texts = [_IDS, *(text for text in tokenizer.special_texts if len(text) > 1)]
        self._any = _pattern(texts)
        self._hidden = _pattern(text for text in texts if text == _IDS or not _is_shown(tokenizer, text))
        as_json = _pattern(json.dumps(text, ensure_ascii=False)[1:-1] for text in texts)
        self._any_in_json = None if as_json is None else re.compile(as_json.pattern.encode())

    def mark(self, value: Value) -> Value:
        """Tools or arguments of a template, with marks. To look through their JSON at once takes less time than to go
        through their texts, in which there is hardly ever anything to mark."""
        if not value or self._any_in_json is None or self._any_in_json.search(msgspec.json.encode(value)) is None:
            return value
        return cast(Value, _mark(value, self._any))

    def render(self, messages: Sequence[Mapping[str, Any]], write: Callable[[Sequence[Any]], str]) -> str:
        """What the template writes for messages, with marks. Arguments of a call that are text, and no JSON, stand
        there as they are, whether the template writes a value's JSON or text; one that reads arguments by their names
        gets the text as the only one, ``arguments``."""
        marked = [self._mark_message(message) for message in messages]
        # Marking copies calls, so they may be changed.
        functions = [call["function"] for message in marked for call in message.get("tool_calls") or ()]
        functions = [function for function in functions if isinstance(function["arguments"], str)]
        texts = [function["arguments"] for function in functions]
        for number, function in enumerate(functions):
            function["arguments"] = f'{_ARGUMENTS}{number}"'
        try:
            written = write(marked)
        except BadRequest:
            if not texts:
                raise
            for function, text in zip(functions, texts, strict=True):
                function["arguments"] = {"arguments": text}
            return write(marked)
        return _WRITTEN_ARGUMENTS.sub(lambda found: texts[int(found[1] or found[2])], written)

    def encode(self, text: str) -> list[int]:
        """Ids of a rendering of marked messages. Raises ContextLengthExceeded for one that is far too long."""
        parts = text.split(_MARK)
        self.check_length("".join(parts))
        if len(parts) == 1 and _IDS not in text:
            return self._tokenizer.encode(text)
        ids: list[int] = []
        for part in parts:
            # Every second one is what the expression's group has found.
            for number, piece in enumerate(_WRITTEN_IDS.split(part)):
                ids += unpack_tokens(bytes.fromhex(piece)) if number % 2 else self._tokenizer.encode(piece)
        return ids

    def check_length(self, text: str) -> None:
        """Raises ContextLengthExceeded for one that is far too long, before it is encoded whole."""
        # Shorter text never is.
        if len(text) > CHUNK_SIZE and over_budget(text, self._context_length, self._count):
            raise ContextLengthExceeded(
                f"The messages are far longer than the model's context of {self._context_length} tokens.",
                param="messages",
            )

    def decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids)

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text))

    def _mark_message(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        pattern = self._any if message.get("role") in _STRANGERS else self._hidden
        # A template may write any of it, a name or an id too. Of the roles it asks which they are.
        marked = {key: value if key == "role" else _mark(value, pattern) for key, value in message.items()}
        if IDS in marked:
            marked["content"] = f"{_IDS}{marked.pop(IDS)}.{marked.get('content') or ''}"
            marked.pop("reasoning_content", None)
        return marked


def mark_texts(value: Value, texts: Iterable[str]) -> Value:
    """A value with marks inside these texts too, wherever they are in it."""
    return cast(Value, _mark(value, _pattern(texts)))


def _pattern(texts: Iterable[str]) -> re.Pattern[str] | None:
    """Finds any of the texts, the longest at its place."""
    choice = "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
    return re.compile(choice) if choice else None


def _mark(value: Any, pattern: re.Pattern[str] | None) -> Any:
    """A value with marks in all its texts, the names of fields among them, wherever the pattern is found."""
    if isinstance(value, list):
        return [_mark(one, pattern) for one in value]
    if isinstance(value, dict):
        return {_mark(key, pattern): _mark(one, pattern) for key, one in value.items()}
    if not isinstance(value, str) or pattern is None or (found := pattern.search(value)) is None:
        return value
    # One after another, with those that overlap: other threads run in between.
    parts, start = [], 0
    while found is not None:
        end = found.start() + 1
        parts.append(value[start:end])
        start = end
        found = pattern.search(value, start)
    return _MARK.join([*parts, value[start:]])


def _is_shown(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a special token is part of a reply's text, as the tags of reasoning and tool calls are."""
    stream = tokenizer.stream()
    return bool(stream.push(tokenizer.encode(text)) + stream.flush())
