"""Where the turn of a response begins: behind an earlier response, or where the caller's session goes on; and without
which turns, where the conversation is too long."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from ark.sessions.matching import Found
from ark.sessions.response_node import Node
from ark.sessions.responses import ResponseStore
from ark.sessions.service import Sessions, SessionTurn
from ark.sessions.transcript import Continuation, Message, Transcript


class ResponseTurn(SessionTurn):
    """The session of a response's turn: `parent`, the response before it, or else `session`."""

    def __init__(
        self,
        sessions: Sessions,
        store: ResponseStore,
        *,
        number: str,
        session: SessionTurn | None = None,
        parent: Node | None = None,
        instructed: bool = False,
        drop: int = 0,
        keep: Callable[[Transcript, str], Awaitable[None]] | None = None,
    ) -> None:
        """`number` is the response's id. `instructed`: the request's first message is its instructions, which take the
        place of the earlier response's. `drop` turns are left out. `keep` gets what the turn leaves behind, with the
        name of its state in the backend; None for a response that is not stored."""
        super().__init__(sessions, None)
        self._store = store
        self._number = number
        self._session = session
        self._parent = parent
        self._instructed = instructed
        self._drop = drop
        self.droppable = 0
        """Turns that can be left out; known after `resume`."""
        self.dropped_messages = 0
        self._keep = keep
        self._key: str | None = None
        """Of the state that no session owns."""

    @property
    def session_id(self) -> str | None:
        return self._number if self._session is None else self._session.session_id

    @property
    def set_cookie(self) -> str | None:
        return None if self._session is None else self._session.set_cookie

    @property
    def found(self) -> Found | None:
        return "explicit" if self._session is None else self._session.found

    @property
    def key(self) -> str | None:
        return self._key if self._session is None else self._session.key

    def resume(self, messages: tuple[Message, ...], model: str) -> Continuation:
        whole = self._resume(messages, model)
        self.droppable = count_droppable(whole.messages)
        left = drop_turns(whole, self._drop)
        self.dropped_messages = len(whole.messages) - len(left.messages)
        return left

    def _resume(self, messages: tuple[Message, ...], model: str) -> Continuation:
        if self._session is not None:
            return self._session.resume(messages, model)
        parent = self._parent
        if self._keep is not None:
            # The first response behind another one takes its state over; a second one is a branch.
            self._key = (parent is not None and self._store.take_key(parent)) or secrets.token_hex(16)
        if parent is None:
            return Continuation(messages)
        self._sessions.found["explicit"] += 1
        return behind(parent, messages, model, instructed=self._instructed)

    async def commit(self, transcript: Transcript) -> bool:
        if self._session is not None:
            await self._session.commit(transcript)
        if self._keep is not None:
            key, self._key = self._key, None
            await self._keep(transcript, key or "")
        return True

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
        key, self._key = self._key, None
        if key is not None:
            self._store.return_key(self._parent, key)


def behind(node: Node, messages: tuple[Message, ...], model: str, *, instructed: bool) -> Continuation:
    """The conversation of a response with a request's messages behind it."""
    transcript = node.transcript()
    own, old = int(instructed), int(node.record.instructed)
    known = (*messages[:own], *transcript.messages[old:])
    whole = (*known, *messages[own:])
    if transcript.model != model:
        # Its tokens mean nothing to another model, which reads the messages.
        return Continuation(whole)
    seams = tuple(msgspec.structs.replace(seam, message=seam.message + own - old) for seam in transcript.seams)
    transcript = Transcript(transcript.model, transcript.fingerprint, known, transcript.tokens, seams)
    return Continuation(whole, transcript, kept=len(known), how="continued")


def count_droppable(messages: Sequence[Message]) -> int:
    """How many turns can be left out: all but the latest."""
    return max(0, len(_turns(messages)) - 1)


def drop_turns(continuation: Continuation, count: int) -> Continuation:
    """The conversation without `count` turns, for ``truncation: auto``. The first turn, which says what all is about,
    goes last. The replies that are left keep their own tokens."""
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
