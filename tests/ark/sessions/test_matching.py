"""Which conversation a request continues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ark.config import SessionsConfig
from ark.errors import BadRequest
from ark.sessions.session import Conversation, Session
from ark.sessions.store import Lease, SessionStore
from ark.sessions.transcript import Continuation, Transcript, read_message, read_messages


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


SYSTEM = {"role": "system", "content": "be kind"}


@pytest.fixture
def session_of(finish: Callable[..., Transcript]) -> Callable[..., Session]:
    """A session of conversations, each given as its messages; every reply in them is the model's own."""

    def make(*conversations: list[dict[str, Any]], issued: bool = True, model: str = "m") -> Session:
        session = Session("me", "id", issued=issued, trusted=True, created=0, used=0)
        for number, messages in enumerate(conversations):
            continuation = Continuation(())
            transcript = None
            for message in messages:
                if message["role"] == "assistant":
                    transcript = finish(continuation, message["content"], model)
                    continuation = Continuation(transcript.messages, transcript, len(transcript.messages))
                else:
                    before = continuation.messages
                    new = read_message(message, before[-1] if before else None)
                    continuation = Continuation((*before, new), transcript, continuation.kept)
            assert transcript is not None
            session.conversations[str(number)] = Conversation(str(number), transcript, session)
        return session

    return make


def match(session: Session, *messages: dict[str, Any]) -> tuple[str, int, str | None]:
    lease = Lease(session, "match")
    continuation = SessionStore(SessionsConfig(), clock=lambda: 0.0).resume(lease, read_messages(messages), "m")
    return continuation.how, continuation.kept, lease.conversation and lease.conversation.key


def test_the_whole_transcript_is_continued_in_its_place(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")], [user("b"), assistant("B")])
    assert match(session, user("b"), assistant("B"), user("c")) == ("continued", 2, "1")


def test_the_longest_conversation_wins(session_of: Any) -> None:
    short = [user("a"), assistant("A")]
    session = session_of([*short, user("b"), assistant("B")], short)
    assert match(session, *short, user("b"), assistant("B"), user("c")) == ("continued", 4, "0")


def test_more_of_the_models_own_replies_win_over_a_shorter_whole(session_of: Any) -> None:
    short = [user("a"), assistant("A")]
    session = session_of(short, [*short, user("b"), assistant("B"), user("c"), assistant("C")])
    assert match(session, *short, user("b"), assistant("B"), user("other")) == ("rewound", 4, None)


def test_an_edited_question_rewinds_and_leaves_the_old_branch(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A"), user("b"), assistant("B")])
    assert match(session, user("a"), assistant("A"), user("c")) == ("rewound", 2, None)


def test_a_regenerated_reply_rewinds_to_the_question(session_of: Any) -> None:
    session = session_of([SYSTEM, user("a"), assistant("A")])
    assert match(session, SYSTEM, user("a")) == ("rewound", 2, None)


def test_an_edited_reply_is_the_clients_and_not_the_models(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")])
    assert match(session, user("a"), assistant("other"), user("b")) == ("rewound", 1, None)


def test_the_same_system_message_alone_is_no_common_past(session_of: Any) -> None:
    session = session_of([SYSTEM, user("a"), assistant("A")])
    assert match(session, SYSTEM, user("b")) == ("created", 0, None)


def test_another_models_conversation_is_not_continued(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")], model="other")
    assert match(session, user("a"), assistant("A"), user("b")) == ("created", 0, None)


def test_a_conversation_with_a_turn_in_progress_is_forked(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")])
    session.conversations["0"].running = True
    assert match(session, user("a"), assistant("A"), user("b")) == ("continued", 2, None)


@pytest.mark.parametrize(
    "sent",
    [
        assistant("A", reasoning_content="blue"),
        {"role": "assistant", "content": [{"type": "text", "text": "A"}]},
        assistant("A", tool_calls=[]),
        assistant("A", refusal=None, audio=None, annotations=[]),
    ],
)
def test_messages_are_the_same_when_a_client_sees_the_same(session_of: Any, sent: dict[str, Any]) -> None:
    session = session_of([user("a"), assistant("A")])
    assert match(session, user("a"), sent, user("b")) == ("continued", 2, "0")


@pytest.mark.parametrize(
    "sent",
    [
        assistant("A "),
        user("A"),
        assistant("A", name="x"),
        assistant("A", tool_calls=[{"id": "1", "function": {"name": "f", "arguments": {}}}]),
        {"role": "assistant", "content": [{"type": "text", "text": "A"}, {"type": "image_url"}]},
    ],
)
def test_messages_differ_when_a_client_sees_a_difference(session_of: Any, sent: dict[str, Any]) -> None:
    session = session_of([user("a"), assistant("A")])
    assert match(session, user("a"), sent, user("b")) == ("rewound", 1, None)


def test_no_content_and_empty_content_are_the_same() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": [2]}'}}
    value = {"id": "1", "function": {"name": "f", "arguments": {"a": [2], "b": 1}}}
    one, other, third = (
        read_message(message)
        for message in (
            assistant("", tool_calls=[call]),
            {"role": "assistant", "content": None, "tool_calls": [value]},
            assistant("", tool_calls=[{**value, "function": {"name": "g"}}]),
        )
    )
    assert one.digest == other.digest != third.digest


# Append mode.


def append(session: Session, *messages: dict[str, Any], model: str = "m") -> list[str]:
    store = SessionStore(SessionsConfig(), clock=lambda: 0.0)
    continuation = store.resume(Lease(session, "append"), read_messages(messages), model)
    return [f"{m.data['role'][0]}:{m.data['content']}" for m in continuation.messages]


def test_only_the_new_message_is_appended(session_of: Any) -> None:
    session = session_of([SYSTEM, user("a"), assistant("A")], issued=False)
    assert append(session, user("b")) == ["s:be kind", "u:a", "a:A", "u:b"]


def test_the_sessions_system_message_may_be_sent_again(session_of: Any) -> None:
    session = session_of([SYSTEM, user("a"), assistant("A")], issued=False)
    assert append(session, SYSTEM, user("b")) == ["s:be kind", "u:a", "a:A", "u:b"]
    developer = {**SYSTEM, "role": "developer"}
    assert append(session, developer, user("b")) == ["s:be kind", "u:a", "a:A", "u:b"]


def test_the_whole_transcript_may_be_sent_again(session_of: Any) -> None:
    session = session_of([SYSTEM, user("a"), assistant("A")], issued=False)
    assert append(session, SYSTEM, user("a"), assistant("A"), user("b")) == ["s:be kind", "u:a", "a:A", "u:b"]
    assert append(session, SYSTEM, user("a"), assistant("A")) == ["s:be kind", "u:a", "a:A"]


def test_the_same_question_again_is_a_new_one(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")], issued=False)
    assert append(session, user("a")) == ["u:a", "a:A", "u:a"]


@pytest.mark.parametrize("first", [[SYSTEM], []])
def test_another_system_message_is_refused(session_of: Any, first: list[dict[str, Any]]) -> None:
    session = session_of([*first, user("a"), assistant("A")], issued=False)
    with pytest.raises(BadRequest) as error:
        append(session, {"role": "system", "content": "be cruel"}, user("b"))
    assert error.value.code == "session_system_mismatch"


def test_a_later_system_message_is_new(session_of: Any) -> None:
    session = session_of([SYSTEM, user("a"), assistant("A")], issued=False)
    later = {"role": "system", "content": "be brief"}
    assert append(session, SYSTEM, later, user("b")) == ["s:be kind", "u:a", "a:A", "s:be brief", "u:b"]


def test_a_named_session_belongs_to_one_model(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")], issued=False)
    with pytest.raises(BadRequest) as error:
        append(session, user("b"), model="other")
    assert error.value.code == "session_model_mismatch"


def test_a_cookies_session_appends_to_the_latest_conversation_with_the_model(session_of: Any) -> None:
    session = session_of([user("a"), assistant("A")], [user("b"), assistant("B")])
    assert append(session, user("c")) == ["u:b", "a:B", "u:c"]
    assert append(session, user("c"), model="other") == ["u:c"]
