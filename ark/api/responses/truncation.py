"""``truncation: auto``: whole turns left out of the middle of a conversation that is too long."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ark.sessions.transcript import Continuation, Message, Transcript


def count_droppable(messages: Sequence[Message]) -> int:
    """How many turns can be left out: all but the latest."""
    return max(0, len(_turns(messages)) - 1)


def drop_turns(continuation: Continuation, count: int) -> Continuation:
    """The conversation without `count` turns. The first turn, which says what all is about, goes last. The replies that
    are left keep their own tokens."""
    messages = continuation.messages
    starts = _turns(messages)
    ends = [*starts[1:], len(messages)]
    order = [*range(1, len(starts) - 1), 0]
    gone = {index for turn in order[:count] for index in range(starts[turn], ends[turn])}
    if not gone:
        return continuation
    places = [index for index in range(len(messages)) if index not in gone]
    whole = tuple(messages[index] for index in places)
    transcript = continuation.transcript
    if transcript is None:
        return Continuation(whole, how=continuation.how)
    moved = {index: place for place, index in enumerate(places)}
    seams = tuple(
        msgspec.structs.replace(seam, message=moved[seam.message]) for seam in transcript.seams if seam.message in moved
    )
    kept = sum(index < continuation.kept for index in places)
    left = Transcript(transcript.model, transcript.fingerprint, whole[:kept], transcript.tokens, seams)
    return Continuation(whole, left, kept=kept, how=continuation.how)


def _turns(messages: Sequence[Message]) -> list[int]:
    """Where turns begin: at a message of the user that follows no other one of the user."""
    roles = [message.data.get("role") for message in messages]
    return [n for n, role in enumerate(roles) if role == "user" and (n == 0 or roles[n - 1] != "user")]
