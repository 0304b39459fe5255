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

from ark.chat.prompt.verbatim import Verbatim
from ark.errors import BadRequest
from ark.sessions.transcript import Continuation, Seam, Transcript, unpack_tokens

EDGE = 64
"""Characters kept of the end of a base."""
_HEADER = 256
"""A template's opening of a reply is shorter than this many characters."""
_SURE = 4
"""Characters of an edge that must be found for its place to count as found."""

# Nobody can write it into a message beforehand.
_MARK = f"ark-{secrets.token_hex(16)}-"


class Render(Protocol):
    """The template of one request: its tools and arguments are bound."""

    def __call__(self, messages: Sequence[Mapping[str, Any]], generate: bool = True) -> str: ...


@dataclass(frozen=True)
class Piece:
    """A prompt, and what stands where in it."""

    ids: list[int]
    seams: tuple[Seam, ...]
    """The replies in it that are the model's own tokens."""
    text: str
    """The template's rendering of the same messages."""
    messages: Sequence[Mapping[str, Any]]
    """What was rendered."""


def base_digest(text: str) -> bytes:
    """Digest of a base's text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def splice(continuation: Continuation, transcript: Transcript, render: Render, tokenizer: Verbatim) -> Piece | None:
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
    stable = _stable(seams, text)
    for later in _choices(seams[stable:], messages):
        if stable == 0 and not later:
            return None
        splicer = _Splicer(transcript, tokenizer, messages, text, render)
        piece = splicer.run(seams[:stable], later)
        if piece is not None:
            return piece
    return None


def _stable(seams: Sequence[Seam], text: str) -> int:
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


def _choices(later: Sequence[Seam], messages: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Seam]]:
    """Sets of replies behind the stable ones to keep, the best first.

    A mark stands in the place of a whole reply. Where templates check the order of roles, a mark instead of a tool
    call may break it, so the second set leaves tool calls to the template.
    """
    seen: list[Sequence[Seam]] = []
    possible = [seam for seam in later if seam.start >= 0]
    plain = [seam for seam in possible if not messages[seam.message].get("tool_calls")]
    for choice in (possible, plain, []):
        if choice not in seen:
            seen.append(choice)
            yield choice


class _Splicer:
    """One attempt."""

    def __init__(
        self,
        transcript: Transcript,
        tokenizer: Verbatim,
        messages: Sequence[Mapping[str, Any]],
        text: str,
        render: Render,
    ) -> None:
        self._transcript = transcript
        self._tokenizer = tokenizer
        self._messages = messages
        self._text = text
        self._render = render
        self._ids: list[int] = []
        self._seams: list[Seam] = []

    def run(self, stable: Sequence[Seam], later: Sequence[Seam]) -> Piece | None:
        """Keeps everything up to the last stable reply, and the tokens of the later ones."""
        marked = [*stable[-1:], *later]
        segments = self._segments(marked)
        if segments is None:
            return None
        *between, tail = segments
        if stable:
            self._ids = unpack_tokens(self._transcript.tokens, 0, stable[-1].end)
            self._seams = list(stable)
            between = between[1:]
        place = stable[-1].base_length if stable else 0
        for segment, seam in zip(between, later, strict=True):
            cut = _align(segment, seam.edge)
            # Ordinary text may be trimmed or written otherwise; a segment that is not there at all is a surprise.
            place = -1 if cut is None else self._text.find(segment[:cut], place)
            if cut is None or place < 0 or (place > 0 and not self._seams):
                return None
            self._append(segment[:cut])
            place += cut
            self._keep(seam, place)
        if not self._text.endswith(tail) or len(self._text) - len(tail) < place:
            return None
        self._append(tail)
        return Piece(self._ids, tuple(self._seams), self._text, self._messages)

    def _segments(self, marked: Sequence[Seam]) -> list[str] | None:
        """The rendering with marks instead of some replies, split at the marks."""
        messages = list(self._messages)
        for number, seam in enumerate(marked):
            messages[seam.message] = {"role": "assistant", "content": f"{_MARK}{number}."}
        try:
            rest = self._render(messages)
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

    def _keep(self, seam: Seam, base_length: int) -> None:
        """Append the opening and the tokens of a reply whose base has just been written."""
        start = len(self._ids)
        self._ids += unpack_tokens(self._transcript.tokens, seam.start, seam.end)
        base = self._text[:base_length]
        self._seams.append(
            Seam(
                message=seam.message,
                start=start,
                end=len(self._ids),
                stopped=seam.stopped,
                base_length=base_length,
                base_digest=base_digest(base),
                edge=base[-EDGE:],
            )
        )

    def _append(self, text: str) -> None:
        """Encode what the template writes behind the last reply, or at the beginning."""
        if not self._seams or not self._seams[-1].stopped:
            self._ids += self._tokenizer.encode(text)
            return
        seam = self._seams[-1]
        stop = self._ids[-1]
        written = self._tokenizer.decode([stop])
        if not written or not text.startswith(written):
            # The model ended with another stop id than the template writes: a tool call's, or the document's end.
            self._ids.pop()
            self._seams[-1] = Seam(
                seam.message, seam.start, seam.end - 1, False, seam.base_length, seam.base_digest, seam.edge
            )
            self._ids += self._tokenizer.encode(text)
            return
        # Together with the stop id in front, text is encoded as in the middle of a conversation: some tokenizers
        # treat the beginning of a text in another way.
        ids = self._tokenizer.encode(text)
        if ids[:1] == [stop]:
            self._ids += ids[1:]
        else:
            self._ids += self._tokenizer.encode(text[len(written) :])


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
