"""Conversations of requests without a cookie: found by a name, or by what the client sends anyway."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from ark.config import SessionsConfig
from ark.errors import BadRequest
from ark.sessions.service import Hints, Sessions
from ark.sessions.transcript import Continuation, Transcript, read_messages

pytestmark = pytest.mark.anyio

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


class Client:
    """A program with a conversation and no cookie jar."""

    def __init__(self, sessions: Sessions, finish: Callable[..., Transcript], owner: str = "ann", **hints: Any) -> None:
        self.sessions = sessions
        self.finish = finish
        self.owner = owner
        self.hints = hints
        self.history: list[dict[str, Any]] = []

    def begin(self, text: str, **hints: Any) -> Any:
        sent = read_messages([*self.history, {"role": "user", "content": text}])
        given = Hints(**{"model": "m", "messages": sent, **self.hints, **hints})
        return self.sessions.begin(self.owner, hints=given)

    async def say(self, text: str, **hints: Any) -> tuple[str, str, str]:
        """How the conversation continued, by what it was found, and its session."""
        async with await self.begin(text, **hints) as turn:
            continuation = self.resume(turn, text)
            await turn.commit(self.finish(continuation, text.upper()))
        said = [{"role": "user", "content": text}, {"role": "assistant", "content": text.upper()}]
        self.history += said
        return continuation.how, turn.found, turn.session_id

    def resume(self, turn: Any, text: str) -> Continuation:
        return turn.resume(read_messages([*self.history, {"role": "user", "content": text}]), "m")


@pytest.fixture
def sessions_of(clock: Any) -> Callable[..., Sessions]:
    return lambda **config: Sessions(SessionsConfig(**config), clock=clock)


@pytest.fixture
def client_of(finish: Any) -> Callable[..., Client]:
    return lambda sessions, *owner, **hints: Client(sessions, finish, *owner, **hints)


async def test_the_conversation_itself_finds_it(sessions_of: Any, client_of: Any) -> None:
    client = client_of(sessions_of())
    first = await client.say("a")
    assert first[:2] == ("created", "new")
    for text in "bc":
        assert await client.say(text) == ("continued", "content", first[2])
    assert len(client.sessions.store) == 1


@pytest.mark.parametrize("other", [{"model": "other"}, {"tools": TOOLS}, {"owner": "bob"}])
async def test_what_is_not_the_same_finds_nothing(sessions_of: Any, client_of: Any, other: dict[str, Any]) -> None:
    client = client_of(sessions_of())
    await client.say("a")
    client.owner = other.pop("owner", client.owner)
    assert (await client.say("b", **other))[:2] == ("created", "new")


async def test_the_order_of_keys_in_tools_is_no_difference(sessions_of: Any, client_of: Any) -> None:
    client = client_of(sessions_of(), tools=TOOLS)
    await client.say("a")
    written = [{"function": dict(reversed(tool["function"].items())), "type": "function"} for tool in TOOLS]
    assert (await client.say("b", tools=written))[:2] == ("continued", "content")


async def test_without_keys_an_address_stands_for_one(sessions_of: Any, client_of: Any) -> None:
    sessions = sessions_of()
    for name, owner, how in ((None, "", "created"), ("x", "", "created"), (None, "ann", "continued")):
        client = client_of(sessions, owner, address="10.0.0.1", name=name)
        await client.say("a")
        client.hints["address"] = "10.0.0.2"
        assert (await client.say("b"))[0] == how


async def test_an_edited_turn_rewinds_and_the_old_branch_stays(sessions_of: Any, client_of: Any) -> None:
    client = client_of(sessions_of())
    await client.say("a")
    await client.say("b")
    left = list(client.history)
    del client.history[2:]
    assert (await client.say("other"))[:2] == ("rewound", "content")
    assert (await client.say("more"))[0] == "continued"
    client.history = left
    assert (await client.say("c"))[0] == "continued"


async def test_a_shortened_history_is_a_new_conversation(sessions_of: Any, client_of: Any) -> None:
    client = client_of(sessions_of())
    for text in "abc":
        await client.say(text)
    client.history = [{"role": "user", "content": "summary"}, *client.history[-2:]]
    assert (await client.say("d"))[0] == "created"


async def test_two_turns_at_once_fork(sessions_of: Any, client_of: Any, finish: Any) -> None:
    sessions = sessions_of()
    client = client_of(sessions)
    await client.say("a")
    async with await client.begin("b") as one, await client.begin("c") as other:
        first, second = client.resume(one, "b"), client.resume(other, "c")
        assert (first.how, second.how) == ("continued", "continued")
        assert first.transcript is second.transcript is not None
        assert one.key != other.key
        await other.commit(finish(second, "C"))
        await one.commit(finish(first, "B"))
    client.history += [{"role": "user", "content": "c"}, {"role": "assistant", "content": "C"}]
    assert (await client.say("d"))[0] == "continued"


async def test_two_clients_that_say_the_same_do_not_mix(sessions_of: Any, client_of: Any) -> None:
    sessions = sessions_of()
    one, other = client_of(sessions), client_of(sessions)
    await one.say("a")
    await other.say("a")
    assert (await one.say("b"))[0] == "continued"
    assert (await other.say("x"))[0] in ("continued", "rewound")
    assert (await one.say("c"))[0] == "continued"
    assert (await other.say("y"))[0] == "continued"
    for client in (one, other):
        async with await client.begin("z") as turn:
            said = [message.data["content"] for message in client.resume(turn, "z").messages]
            assert said == [*(message["content"] for message in client.history), "z"]


async def test_a_name_tells_two_of_the_same_beginning_apart(sessions_of: Any, client_of: Any) -> None:
    sessions = sessions_of()
    one, other = client_of(sessions, name="one"), client_of(sessions, name="other")
    session = (await one.say("a"))[2]
    await other.say("a")
    assert await one.say("b") == ("continued", "name", session)
    # One name may stand for several conversations, as those of an agent and its subagents.
    third = client_of(sessions, name="one")
    assert (await third.say("x"))[0] == "created"
    assert (await one.say("c"))[1:] == ("name", session)
    assert (await third.say("y"))[1] == "name"


async def test_a_name_finds_what_the_tools_would_not(sessions_of: Any, client_of: Any) -> None:
    client = client_of(sessions_of(), name="one")
    await client.say("a")
    assert (await client.say("b", tools=TOOLS))[:2] == ("continued", "name")
    assert (await client.say("c", name="two", tools=TOOLS))[:2] == ("continued", "content")


async def test_each_step_can_be_switched_off(sessions_of: Any, client_of: Any) -> None:
    for match, by_name, by_content in (
        ("content", "name", "content"),
        ("named", "name", "new"),
        ("cookie", "new", "new"),
    ):
        sessions = sessions_of(match=match)
        named, nameless = client_of(sessions, name="one"), client_of(sessions)
        for client, found in ((named, by_name), (nameless, by_content)):
            await client.say("a")
            assert (await client.say("b"))[1] == found
    sessions = sessions_of(cookie=False)
    client = client_of(sessions)
    await client.say("a")
    cookie = (await client.say("b"))[2]
    async with await sessions.begin("ann", cookie=cookie) as turn:
        assert turn.set_cookie is None
        assert turn.session_id != cookie
    name = str(uuid.UUID(int=5))
    for config, stateful in (({"explicit": False}, name), ({"explicit": False}, True), ({"cookie": False}, True)):
        with pytest.raises(BadRequest) as error:
            await sessions_of(**config).begin("ann", stateful=stateful)
        assert error.value.code == "sessions_disabled"


async def test_a_newer_cookies_session_takes_over_the_conversation(
    sessions_of: Any, client_of: Any, finish: Any
) -> None:
    """As in a program whose requests ran at once before any cookie was there: the jar has the last one."""
    sessions = sessions_of()
    one, other = client_of(sessions), client_of(sessions)
    old = (await one.say("a"))[2]
    cookie = (await other.say("x"))[2]
    for text, found in (("b", "content"), ("c", "cookie")):
        sent = read_messages([*one.history, {"role": "user", "content": text}])
        hints = Hints(model="m", messages=sent)
        async with await sessions.begin("ann", cookie=cookie, hints=hints) as turn:
            continuation = turn.resume(sent, "m")
            assert (continuation.how, turn.found, turn.session_id) == ("continued", found, cookie)
            await turn.commit(finish(continuation, text.upper()))
        one.history += [{"role": "user", "content": text}, {"role": "assistant", "content": text.upper()}]
    assert sessions.store.describe("ann", old).messages == 2


async def test_a_cookies_own_conversation_comes_before_one_that_has_no_more_replies(
    sessions_of: Any, client_of: Any
) -> None:
    sessions = sessions_of()
    one, other = client_of(sessions, name="one"), client_of(sessions, name="other")
    cookie = (await one.say("a"))[2]
    await other.say("a")
    await one.say("b")
    del other.history[2:]
    # Another client has asked the same question meanwhile.
    await other.say("c")
    sent = read_messages([*one.history[:2], {"role": "user", "content": "c"}])
    async with await sessions.begin("ann", cookie=cookie, hints=Hints(model="m", messages=sent)) as turn:
        continuation = turn.resume(sent, "m")
        assert (turn.found, continuation.how, turn.session_id) == ("cookie", "rewound", cookie)
        assert continuation.transcript is not None
        assert continuation.transcript.messages[2].data["content"] == "b"


async def test_what_was_found_is_kept_before_what_nobody_came_back_to(sessions_of: Any, client_of: Any) -> None:
    sessions = sessions_of(max_sessions=3)
    client = client_of(sessions)
    await client.say("a")
    await client.say("b")
    for number in range(6):
        await client_of(sessions).say(f"once {number}")
    assert (await client.say("c"))[1] == "content"


async def test_nothing_of_what_is_gone_can_be_found(sessions_of: Any, client_of: Any, clock: Any) -> None:
    sessions = sessions_of(max_conversations=2)
    client = client_of(sessions, name="one")
    await client.say("a")
    for text in "bcd":
        history = list(client.history)
        await client.say(text)
        client.history = history
    owner = sessions.store._owners["ann"]
    live = {c for s in owner.sessions.values() for c in s.conversations.values()}
    assert len(live) == 2
    assert {c for found in owner.places.values() for c in found} == live
    clock.now += 1800
    assert (await client.say("e"))[0] == "created"
    sessions.delete("ann", (await client.say("f"))[2])
    assert sessions.store._owners == {}
    assert not owner.places


async def test_how_conversations_were_found_is_counted(sessions_of: Any, client_of: Any) -> None:
    sessions = sessions_of()
    client = client_of(sessions)
    await client.say("a")
    await client.say("b")
    await client.say("c", name="one")
    await client.say("d", name="one")
    assert sessions.found == {"new": 1, "content": 2, "name": 1}


# What is the same to a client.


def call(number: str, arguments: str, name: str = "look") -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


async def test_results_go_to_the_calls_that_the_model_made(sessions_of: Any, finish: Any) -> None:
    """A client that gives calls ids of its own; the template may write them."""
    sessions = sessions_of()
    question = {"role": "user", "content": "a"}
    made = {"role": "assistant", "content": "", "tool_calls": [call("x1", "{}"), call("x2", '{"a": 1}')]}

    async def ask(messages: list[dict[str, Any]], reply: dict[str, Any]) -> Continuation:
        sent = read_messages(messages)
        async with await sessions.begin("ann", hints=Hints(model="m", messages=sent)) as turn:
            continuation: Continuation = turn.resume(sent, "m")
            transcript = finish(continuation, "")
            last = read_messages([reply], continuation.messages[-1])
            await turn.commit(Transcript("m", "f", continuation.messages + last, transcript.tokens, transcript.seams))
        return continuation

    await ask([question], made)
    theirs = json.loads(json.dumps(made).replace('"x', '"y'))
    results = [{"role": "tool", "tool_call_id": number, "content": number} for number in ("y2", "y1")]
    continuation = await ask([question, theirs, *results], {"role": "assistant", "content": "done"})
    assert continuation.how == "continued"
    assert [m.data.get("tool_call_id") for m in continuation.messages[2:]] == ["x2", "x1"]
    history = [question, theirs, *results, {"role": "assistant", "content": "done"}, question]
    continuation = await ask(history, {"role": "assistant", "content": "B"})
    assert (continuation.how, continuation.kept) == ("continued", 5)
    assert [m.data.get("tool_call_id") for m in continuation.messages[2:4]] == ["x2", "x1"]
