"""Reasoning and answer, split by the model's think tags."""

from __future__ import annotations

from enum import Enum

from ark.chat.output.stops import partial_end

OPEN = "<think>"
CLOSE = "</think>"


class _State(Enum):
    START = "nothing but white space so far"
    REASONING = "inside the tags"
    GAP = "behind the closing tag, before the answer"
    CONTENT = "the answer"


class ReasoningSplitter:
    """Splits text that comes in pieces into reasoning and content.

    Reasoning is what stands between think tags at the very beginning; tags later in the answer are text. The white
    space around the reasoning belongs to neither.
    """

    def __init__(self, *, opened: bool = False) -> None:
        """`opened`: the prompt ends with an opening tag, so the reply begins inside."""
        self._state = _State.REASONING if opened else _State.START
        self._held = ""
        self._begun = False

    @property
    def reasoning(self) -> bool:
        """Whether the text so far ends inside the tags."""
        return self._state is _State.REASONING

    @property
    def answering(self) -> bool:
        """Whether the text so far may be, or ends inside, the answer."""
        return self._state in (_State.START, _State.CONTENT)

    def push(self, text: str) -> tuple[str, str]:
        """`(reasoning, content)` that is decided with this text."""
        if self._state is _State.CONTENT:
            return "", text
        text, self._held = self._held + text, ""
        reasoning = ""
        if self._state is _State.START:
            stripped = text.lstrip()
            if len(stripped) < len(OPEN) and OPEN.startswith(stripped):
                self._held = text
                return "", ""
            if not stripped.startswith(OPEN):
                self._state = _State.CONTENT
                return "", text
            self._state = _State.REASONING
            text = stripped[len(OPEN) :]
        if self._state is _State.REASONING:
            reasoning, text = self._inside(text)
        if self._state is not _State.GAP:
            return reasoning, ""
        text = text.lstrip()
        if text:
            self._state = _State.CONTENT
        return reasoning, text

    def flush(self) -> tuple[str, str]:
        """`(reasoning, content)` that was held back, at the end of the reply."""
        held, self._held = self._held, ""
        return (held.rstrip(), "") if self._state is _State.REASONING else ("", held)

    def _inside(self, text: str) -> tuple[str, str]:
        """Reasoning that is decided, and what stands behind the closing tag."""
        if not self._begun:
            text = text.lstrip()
        body, close, rest = text.partition(CLOSE)
        if close:
            self._state = _State.GAP
            return body.rstrip(), rest
        decided = body[: len(body) - partial_end(body, (CLOSE,))].rstrip()
        # White space is held back too: before the closing tag it is not part of the reasoning.
        self._held = body[len(decided) :]
        self._begun = self._begun or bool(decided)
        return decided, ""
