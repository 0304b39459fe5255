"""Which conversation a request continues, among those of its owner, and what of its messages is new there."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from ark.errors import BadRequest
from ark.sessions.session import Conversation, Session
from ark.sessions.transcript import Continuation, How, Message, common_messages, read_messages

Found = Literal["explicit", "cookie", "name", "content", "new"]
"""By what a conversation was found."""
Scope = tuple[Found, bytes]
"""By what, and a digest of all that has to be the same beside the owner and the messages."""


@dataclass(eq=False)
class Owner:
    """What the store has of one owner."""

    sessions: dict[str, Session] = field(default_factory=dict)
    """The oldest first."""
    size: int = 0
    """Bytes of their transcripts."""
    probation: OrderedDict[Session, None] = field(default_factory=OrderedDict)
    """Sessions without a turn in progress, least recently used first, that nobody has come back to; and the others."""
    protected: OrderedDict[Session, None] = field(default_factory=OrderedDict)
    places: dict[tuple[bytes, bytes], list[Conversation]] = field(default_factory=dict)
    """Conversations by the digests of a scope and of a reply, which is one of all that is visible up to it; the latest
    last."""

    def idle(self, session: Session) -> OrderedDict[Session, None]:
        return self.protected if session.trusted else self.probation

    def find(self, scopes: Sequence[Scope], messages: Sequence[Message]) -> tuple[Found, Conversation | None]:
        """The conversation that has the most replies in common with the messages, the first scope's of equals."""
        for message in reversed(messages) if scopes and self.places else ():
            if message.data.get("role") == "assistant":
                for found, scope in scopes:
                    if conversations := self.places.get((scope, message.digest)):
                        return found, conversations[-1]
        return "new", None

    def place(self, conversation: Conversation) -> None:
        """Let `find` find a conversation, until `displace`."""
        for place in _places(conversation):
            self.places.setdefault(place, []).append(conversation)

    def displace(self, conversation: Conversation) -> None:
        for place in _places(conversation):
            self.places[place].remove(conversation)
            if not self.places[place]:
                del self.places[place]


def _places(conversation: Conversation) -> list[tuple[bytes, bytes]]:
    """All places of a conversation: one in each scope for each of its replies."""
    messages, seams = conversation.transcript.messages, conversation.transcript.seams
    return [(scope, messages[seam.message].digest) for scope in conversation.scopes for seam in seams]


def match_conversation(
    conversations: Iterable[Conversation], messages: tuple[Message, ...], model: str
) -> tuple[Continuation, Conversation | None]:
    """Continue the conversation that has the most in common with the request's messages, the first one of equals.

    Returns that conversation too, None for a new one. A conversation that the request agrees with only in part is to be
    left as it is and forked, so a client may go back to the branch it left, and two conversations with the same
    beginning do not destroy each other.
    """
    best: Conversation | None = None
    best_rank = (0, False, 0)
    for conversation in conversations:
        transcript = conversation.transcript
        if transcript.model != model:
            continue
        common = common_messages(transcript.messages, messages)
        replies = sum(seam.message < common for seam in transcript.seams)
        if (rank := (replies, common == len(transcript.messages), common)) > best_rank:
            best, best_rank = conversation, rank
    _, whole, common = best_rank
    if best is None or all(message.is_system for message in messages[:common]):
        # A system message alone is no conversation: programs begin all of theirs with the same one.
        return Continuation(messages), None
    past = best.transcript.messages[:common]
    continued: How = "continued" if whole else "rewound"
    return Continuation((*past, *_rename_calls(messages, past)), best.transcript, common, continued), best


def _rename_calls(messages: tuple[Message, ...], past: tuple[Message, ...]) -> tuple[Message, ...]:
    """What of the messages is behind the past, its first tool results under the ids that the past's calls have."""
    behind = messages[len(past) :]
    calls = messages[len(past) - 1].calls
    if past[-1].calls == calls:
        return behind
    ids = dict(zip(calls, past[-1].calls, strict=False))
    results = [dict(message.data) for message in takewhile(lambda message: message.data["role"] == "tool", behind)]
    for result in results:
        result["tool_call_id"] = ids.get(result["tool_call_id"], result["tool_call_id"])
    return read_messages(results, past[-1]) + behind[len(results) :]


def append_to_conversation(
    session: Session, messages: tuple[Message, ...], model: str
) -> tuple[Continuation, Conversation | None]:
    """Append the request's messages to the session's latest conversation with the model.

    Returns what `match_conversation` does. Raises BadRequest when the leading system message is not the session's, and
    when the client named the session, which is a conversation with another model.
    """
    latest = list(reversed(session.conversations.values()))
    conversation = next((one for one in latest if one.transcript.model == model), None)
    if conversation is None:
        if latest and not session.issued:
            raise BadRequest(
                f"This session is a conversation with the model '{latest[0].transcript.model}'; use another session "
                f"for '{model}'.",
                param="model",
                code="session_model_mismatch",
            )
        return Continuation(messages), None
    transcript = conversation.transcript
    known = transcript.messages
    return Continuation(known + new_messages(known, messages), transcript, len(known), "continued"), conversation


def new_messages(known: Sequence[Message], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What of a request in append mode is new to a session that knows some messages."""
    if common_messages(known, messages) == len(known):
        return messages[len(known) :]
    leading = common_messages(_leading_system(known), _leading_system(messages))
    if leading == 0 and messages and messages[0].is_system:
        raise BadRequest(
            "The system message is not the one that this session began with. Leave it out, send the same one, "
            "or use another session.",
            param="messages[0]",
            code="session_system_mismatch",
        )
    return read_messages((message.data for message in messages[leading:]), known[-1])


def _leading_system(messages: Sequence[Message]) -> Sequence[Message]:
    count = next((n for n, message in enumerate(messages) if not message.is_system), len(messages))
    return messages[:count]
