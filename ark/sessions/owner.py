"""What the store has of one owner: nothing here is found for another one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ark.sessions.session import Conversation, Session
from ark.sessions.transcript import Message

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
