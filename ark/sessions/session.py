"""A session: its id and cookie, its conversations, and which of them a request continues."""

from __future__ import annotations

import re
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ark.config import SessionsConfig
from ark.errors import BadRequest
from ark.sessions.transcript import Continuation, Message, Transcript, common_messages

COOKIE = "ark_session_id"

Mode = Literal["match", "append"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(eq=False)
class Conversation:
    """One conversation of a session. Its transcript is replaced when a turn commits, never changed."""

    key: str
    """Names the conversation's state in the backend."""
    transcript: Transcript
    running: bool = False
    """A turn will replace the transcript; another one that wants to continue it forks."""


@dataclass(eq=False)
class Session:
    """The session of a cookie, or of an id that the client chose."""

    owner: str
    id: str
    issued: bool
    """ARK made the id and put it into a cookie. An id that a client chose is never accepted as a cookie."""
    trusted: bool
    """The client is known to keep the id: the cookie came back, or the client chose the id itself."""
    created: float
    used: float
    conversations: OrderedDict[str, Conversation] = field(default_factory=OrderedDict)
    """By key, the most recently used last."""
    size: int = 0
    """Bytes of all transcripts."""
    turns: int = 0
    """Turns in progress. Nothing evicts a session that has one."""
    appending: bool = False
    """One of the turns is in append mode; there is never a second one."""
    deleted: bool = False
    """A turn that still runs commits nothing."""

    def latest(self, model: str) -> Conversation | None:
        """The most recently used conversation with a model."""
        for conversation in reversed(self.conversations.values()):
            if conversation.transcript.model == model:
                return conversation
        return None


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session as GET /sessions lists it. Times are seconds of the Unix clock."""

    id: str
    kind: Literal["cookie", "named"]
    """Whether ARK issued the id in a cookie or the client chose it."""
    created: float
    last_used: float
    expires: float
    """When it expires if it is not used again."""
    running: int
    """Turns in progress."""
    conversations: int
    messages: int
    tokens: int
    bytes: int
    models: list[str]


def new_session_id() -> str:
    """An id that cannot be guessed."""
    return str(uuid.uuid4())


def new_key() -> str:
    """A name for a conversation's state that no other conversation ever had."""
    return secrets.token_hex(16)


def parse_session_id(text: str) -> str | None:
    """The id in lower case, or None when the text is no UUID in its usual 36 characters."""
    lowered = text.lower()
    return lowered if _UUID.match(lowered) else None


def session_cookie(session_id: str | None, config: SessionsConfig) -> str:
    """The value of the ``set-cookie`` header that names a session; None makes the client forget its cookie."""
    max_age = 0 if session_id is None else int(config.max_age)
    domain = "" if config.cookie_domain is None else f"; Domain={config.cookie_domain}"
    flags = "; Secure" * config.cookie_secure + "; HttpOnly" * config.cookie_http_only
    where = f"Path={config.cookie_path}{domain}; SameSite={config.cookie_same_site}"
    return f"{COOKIE}={session_id or ''}; Max-Age={max_age}; {where}{flags}"


def match_conversation(
    session: Session, messages: tuple[Message, ...], model: str
) -> tuple[Continuation, Conversation | None]:
    """Continue the conversation that has the most in common with the request's messages.

    Returns the conversation too that the turn replaces, None for a new one. A conversation that the request agrees
    with only in part is left as it is and forked, so a client may go back to the branch it left, and two conversations
    with the same beginning do not destroy each other.
    """
    best: Conversation | None = None
    best_rank = (0, False, 0)
    best_common = 0
    # The most recently used comes first and wins a tie.
    for conversation in reversed(session.conversations.values()):
        transcript = conversation.transcript
        if transcript.model != model:
            continue
        common = common_messages(transcript.messages, messages)
        whole = common == len(transcript.messages)
        replies = sum(seam.message < common for seam in transcript.seams)
        if (rank := (replies, whole, common)) > best_rank:
            best, best_rank, best_common = conversation, rank, common
    if best is None or all(message.is_system for message in messages[:best_common]):
        # A system message alone is no conversation: programs begin all of theirs with the same one.
        return Continuation(messages), None
    transcript, whole = best.transcript, best_rank[1]
    continuation = Continuation(
        messages=transcript.messages[:best_common] + messages[best_common:],
        transcript=transcript,
        kept=best_common,
        how="continued" if whole else "rewound",
    )
    return continuation, best if whole and not best.running else None


def append_to_conversation(
    session: Session, messages: tuple[Message, ...], model: str
) -> tuple[Continuation, Conversation | None]:
    """Append the request's messages to the session's conversation; in a cookie's session, to the most recently used one
    with the model.

    Returns what `match_conversation` does. Raises BadRequest when the leading system message is not the session's,
    and when the session belongs to another model.
    """
    conversation = session.latest(model)
    if conversation is None:
        if session.conversations and not session.issued:
            other = next(iter(session.conversations.values())).transcript.model
            raise BadRequest(
                f"This session is a conversation with the model '{other}'; use another session for '{model}'.",
                param="model",
                code="session_model_mismatch",
            )
        return Continuation(messages), None
    transcript = conversation.transcript
    continuation = Continuation(
        messages=transcript.messages + new_messages(transcript.messages, messages),
        transcript=transcript,
        kept=len(transcript.messages),
        how="continued",
    )
    return continuation, None if conversation.running else conversation


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
    return messages[leading:]


def _leading_system(messages: Sequence[Message]) -> Sequence[Message]:
    count = next((n for n, message in enumerate(messages) if not message.is_system), len(messages))
    return messages[:count]
