"""A new rendering of a conversation, with the model's own tokens where its replies stand.

A template does not give back what the model read: it drops reasoning, trims, and may write the past in another way than
before (today's date, tools moved to the last message). So the places of replies are found by rendering them as marks.
The text up to the last reply whose past is still written as it was stays as tokens, untouched. Replies behind it keep
their own tokens too, and only the text between them is encoded anew.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from ark.chat.prompt.verbatim import Verbatim
from ark.errors import BadRequest
from ark.sessions.transcript import EDGE, Continuation, Seam, Transcript, unpack_tokens

_HEADER = 256
"""A template's opening of a reply is shorter than this many characters."""
_SURE = 4
"""Characters of an edge that must be found for its place to count as found."""

# Nobody can write it into a message beforehand.
_MARK = f"ark-{secrets.token_hex(16)}-"


class RenderTemplate(Protocol):
    """The template of one request: its tools and arguments are bound."""

    def __call__(self, messages: Sequence[Mapping[str, Any]], generate: bool = True) -> str: ...


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt, and what stands where in it."""

    ids: list[int]
    seams: tuple[Seam, ...]
    """The replies in it that are the model's own tokens."""
    text: str
    """The template's rendering of the same messages."""
    messages: Sequence[Mapping[str, Any]]
    """What was rendered."""


def splice(
    continuation: Continuation, transcript: Transcript, render: RenderTemplate, tokenizer: Verbatim
) -> RenderedPrompt | None:
    """The prompt with as many of the transcript's tokens as possible; None when no reply can keep its tokens.

    Raises BadRequest when the template refuses the messages.
    """
    seams = [seam for seam in transcript.seams if seam.message < continuation.kept]
    if not seams:
        return None
    own = {seam.message for seam in seams}
    # Without their reasoning earlier replies are written the same way however many turns come behind them.
    messages = [
        message.without_reasoning() if index in own else message.data
        for index, message in enumerate(continuation.messages)
    ]
    text = render(messages)
    stable = _count_stable(seams, text)
    for later in _candidates(seams[stable:], messages):
        if stable == 0 and not later:
            return None
        segments = _segments(messages, [*seams[:stable][-1:], *later], render)
        splicer = _Splicer(transcript, tokenizer, text)
        if segments is not None and splicer.run(seams[:stable], later, segments):
            return RenderedPrompt(splicer.ids, tuple(splicer.seams), text, messages)
    return None


def _count_stable(seams: Sequence[Seam], text: str) -> int:
    """How many leading replies have a base with which the text still begins."""
    digest = blake2b(digest_size=16)
    at = 0
    for count, seam in enumerate(seams):
        if not at <= seam.base_length <= len(text):
            return count
        digest.update(text[at : seam.base_length].encode("utf-8", "surrogatepass"))
        at = seam.base_length
        if digest.copy().digest() != seam.base_digest:
            return count
    return len(seams)


def _candidates(later: Sequence[Seam], messages: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Seam]]:
    """Sets of replies behind the stable ones to keep, the best first.

    A mark stands in the place of a whole reply. Where templates check the order of roles, a mark instead of a tool
    call may break it, so the second set leaves tool calls to the template.
    """
    possible = [seam for seam in later if seam.start >= 0]
    plain = [seam for seam in possible if not messages[seam.message].get("tool_calls")]
    yield possible
    if plain != possible:
        yield plain
    if plain:
        yield []


def _segments(
    messages: Sequence[Mapping[str, Any]], marked: Sequence[Seam], render: RenderTemplate
) -> list[str] | None:
    """The rendering with marks instead of some replies, split at the marks."""
    messages = list(messages)
    for number, seam in enumerate(marked):
        messages[seam.message] = {"role": "assistant", "content": f"{_MARK}{number}."}
    try:
        rest = render(messages)
    except BadRequest:
        return None
    segments: list[str] = []
    for number in range(len(marked)):
        segment, mark, rest = rest.partition(f"{_MARK}{number}.")
        if not mark:
            return None
        segments.append(segment)
    segments.append(rest)
    return None if any(_MARK in segment for segment in segments) else segments


class _Splicer:
    """One attempt."""

    def __init__(self, transcript: Transcript, tokenizer: Verbatim, text: str) -> None:
        self._transcript = transcript
        self._tokenizer = tokenizer
        self._text = text
        self.ids: list[int] = []
        self.seams: list[Seam] = []

    def run(self, stable: Sequence[Seam], later: Sequence[Seam], segments: Sequence[str]) -> bool:
        """Keep everything up to the last stable reply, and the tokens of the later ones. False where that fails."""
        *between, tail = segments
        place = 0
        if stable:
            self.ids = unpack_tokens(self._transcript.tokens, 0, stable[-1].end)
            self.seams = list(stable)
            between = between[1:]
            place = stable[-1].base_length
        for segment, seam in zip(between, later, strict=True):
            cut = _align(segment, seam.edge)
            # Ordinary text may be trimmed or written otherwise; a segment that is not there at all is a surprise.
            place = -1 if cut is None else self._text.find(segment[:cut], place)
            if cut is None or place < 0 or (place > 0 and not self.seams):
                return False
            self._append(segment[:cut])
            place += cut
            start = len(self.ids)
            self.ids += unpack_tokens(self._transcript.tokens, seam.start, seam.end)
            base = self._text[:place]
            kept = Seam.behind(base, message=seam.message, start=start, end=len(self.ids), stopped=seam.stopped)
            self.seams.append(kept)
        if not self._text.endswith(tail) or len(self._text) - len(tail) < place:
            return False
        self._append(tail)
        return True

    def _append(self, text: str) -> None:
        """Encode what the template writes behind the last reply, or at the beginning."""
        stop = self.ids[-1] if self.seams and self.seams[-1].stopped else None
        written = "" if stop is None else self._tokenizer.decode([stop])
        ids = self._tokenizer.encode(text)
        if stop is not None and not (written and text.startswith(written)):
            # The model ended with another stop id than the template writes: a tool call's, or the document's end.
            self.ids.pop()
            self.seams[-1] = msgspec.structs.replace(self.seams[-1], end=self.seams[-1].end - 1, stopped=False)
        elif stop is not None:
            # Together with the stop id in front, text is encoded as in the middle of a conversation: some tokenizers
            # treat the beginning of a text in another way.
            ids = ids[1:] if ids[:1] == [stop] else self._tokenizer.encode(text[len(written) :])
        self.ids += ids


def _align(segment: str, edge: str) -> int | None:
    """Where in a segment the base of its reply ends: behind the characters that agree best with the base's end.

    What follows is the template's opening of a past reply, which the reply's own tokens already have.
    """
    best, best_length = None, min(_SURE, len(edge)) - 1
    for end in range(len(segment), max(0, len(segment) - _HEADER) - 1, -1):
        length = 0
        for mine, theirs in zip(reversed(segment[max(0, end - EDGE) : end]), reversed(edge), strict=False):
            if mine != theirs:
                break
            length += 1
        if length > best_length:
            best, best_length = end, length
    return best
