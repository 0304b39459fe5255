"""A turn: admission, deltas, the end of the time, and what the session keeps."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, backend_of, running
from echo_backend import END, EchoBackend

from ark.chat.output.processor import Delta
from ark.chat.prompt.builder import PromptBuilder
from ark.chat.turn import Turn, TurnRequest, begin_turn
from ark.config import ModelConfig, SessionsConfig
from ark.engines.chat import GenerationJob, SamplingParams, TokenBatch
from ark.errors import Unavailable
from ark.sessions.service import Sessions, SessionTurn
from ark.sessions.transcript import read_messages

pytestmark = pytest.mark.anyio

ADMITTED = TokenBatch(cached_tokens=3)
NAME = str(uuid.UUID(int=1, version=4))


class Engine(EchoBackend):
    """Gives batches at their times, and knows whether its job was ended before the last of them."""

    def __init__(self, *batches: TokenBatch | tuple[float, TokenBatch]) -> None:
        super().__init__(ModelConfig(name="engine"))
        self._batches = [batch if isinstance(batch, tuple) else (0.0, batch) for batch in batches]
        self.finished = False
        self.open = False
        self.job: GenerationJob | None = None

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        self.job = job
        self.open = True
        try:
            for pause, batch in self._batches:
                if pause:
                    await anyio.sleep(pause)
                yield batch
            self.finished = True
        finally:
            self.open = False


class Untold:
    """Takes the times of a turn, which nobody wants here."""

    def ask(self) -> None:
        return

    def batch(self, batch: TokenBatch) -> None:
        return


def begin(
    engine: Engine, session: SessionTurn, *stops: str, n: int = 1, seconds: float = 60.0
) -> AbstractAsyncContextManager[Turn]:
    request = TurnRequest(
        request_id="test",
        model="m",
        owner="",
        messages=read_messages([{"role": "user", "content": "hi"}]),
        max_tokens=None,
        sampling=SamplingParams(),
        stop_token_ids=frozenset({END}),
        stops=stops,
        reasoning=False,
        n=n,
        seconds=seconds,
    )
    prompts = PromptBuilder(engine.tokenizer, model="m", context_length=4096)
    return begin_turn(request, session, backend=engine, prompts=prompts, observer=Untold())


async def run(engine: Engine, *stops: str, sessions: Sessions | None = None, **more: Any) -> tuple[Turn, list[Delta]]:
    """A whole turn, of a session where there are some."""
    stateful = False if sessions is None else NAME
    begun = await (Sessions(SessionsConfig()) if sessions is None else sessions).begin("", stateful=stateful)
    async with begun as session, begin(engine, session, *stops, **more) as turn:
        deltas = [delta async for delta in turn]
    assert not engine.open
    return turn, deltas


def batch(text: str, finish_reason: str | None = None, index: int = 0) -> TokenBatch:
    ids = [*text.encode(), *([END] if finish_reason == "stop" else [])]
    return TokenBatch(token_ids=ids, finish_reason=finish_reason, index=index)


def kept(sessions: Sessions) -> int:
    """Messages in the session."""
    return sum(info.messages for info in sessions.store.describe_all(""))


async def test_headers_are_known_when_the_turn_has_begun() -> None:
    sessions, engine = Sessions(SessionsConfig()), Engine(ADMITTED, batch("hi", "stop"))
    async with await sessions.begin("", stateful=NAME) as session, begin(engine, session) as turn:
        assert turn.headers == [("x-ark-session", f"{NAME}; created"), ("x-ark-cached-tokens", "3")]
        assert not turn.complete
        assert [delta.content async for delta in turn] == ["h", "i"]
        assert turn.complete
        assert kept(sessions) == 0, "before the block is left"
    assert kept(sessions) == 2
    assert (turn.cached_tokens, turn.completion_tokens) == (3, 3)


async def test_an_admission_that_says_nothing_of_the_cache() -> None:
    turn, deltas = await run(Engine(batch("h"), batch("i", "stop")))
    assert [delta.content for delta in deltas] == ["h", "i"]
    assert turn.cached_tokens == 0


@pytest.mark.parametrize("deltas", [0, 1])
async def test_a_turn_that_is_left_is_not_kept(deltas: int) -> None:
    sessions, engine = Sessions(SessionsConfig()), Engine(ADMITTED, batch("hello", "stop"))
    async with await sessions.begin("", stateful=NAME) as session, begin(engine, session) as turn:
        for _ in range(deltas):
            await anext(turn)
    assert not engine.open
    # The engine has given all of it, and the reader has not taken all.
    assert kept(sessions) == 0


async def test_an_error_in_the_block_keeps_nothing_and_tells_the_cookie() -> None:
    sessions, engine = Sessions(SessionsConfig()), Engine(ADMITTED, batch("hello", "stop"))

    async def fail() -> None:
        async with await sessions.begin("") as session, begin(engine, session) as turn:
            async for _ in turn:
                pass
            raise Unavailable("The line broke.")

    with pytest.raises(Unavailable) as caught:
        await fail()
    assert not engine.open
    assert kept(sessions) == 0
    assert caught.value.headers["set-cookie"].startswith("ark_session_id=")


async def test_a_stop_string_ends_the_engines_job() -> None:
    engine = Engine(ADMITTED, batch("one E"), batch("ND two"), batch("three", "stop"))
    turn, _ = await run(engine, "END")
    assert turn.outputs[0].content == "one "
    assert turn.complete
    assert not engine.finished


async def test_an_engine_that_ends_without_a_reason_is_an_error() -> None:
    sessions = Sessions(SessionsConfig())
    with pytest.raises(RuntimeError, match="finish reason"):
        await run(Engine(ADMITTED, batch("half")), sessions=sessions)
    assert kept(sessions) == 0


async def test_replies_are_told_apart() -> None:
    engine = Engine(
        ADMITTED,
        batch("a"),
        batch("bX", index=1),
        batch("more that nobody sees", index=1),
        batch("c", "stop"),
    )
    turn, deltas = await run(engine, "X", n=2)
    assert [output.content for output in turn.outputs] == ["ac", "b"]
    assert [(delta.index, delta.content, delta.last) for delta in deltas] == [
        (0, "a", False),
        (1, "b", False),
        (1, "", True),
        (0, "c", False),
    ]
    assert (turn.completion_tokens, turn.cached_tokens) == (len("ac") + 1 + len("bX"), 3)


async def test_only_what_a_stop_string_ended_is_dropped_from_the_job() -> None:
    engine = Engine(
        ADMITTED,
        batch("a", "stop", index=0),
        batch("aX", index=1),
        batch("aX", "length", index=2),
        batch("a", "stop", index=3),
    )
    _, deltas = await run(engine, "X", n=4)
    assert engine.job is not None
    assert engine.job.dropped == {1}
    assert [delta.index for delta in deltas if delta.last] == [0, 1, 2], "the last one ends with the job"


def token(number: int, index: int = 0) -> TokenBatch:
    return TokenBatch(token_ids=(number,), index=index)


async def test_a_reply_in_time_is_left_as_it_is() -> None:
    engine = Engine(ADMITTED, token(65), token(66), TokenBatch(token_ids=(67,), finish_reason="stop"))
    turn, _ = await run(engine, seconds=10)
    assert (turn.outputs[0].content, turn.outputs[0].finish_reason) == ("AB", "stop")


async def test_the_time_begins_with_the_first_token() -> None:
    sessions = Sessions(SessionsConfig())
    engine = Engine(ADMITTED, (0.2, token(65)), token(66), (0.1, token(67)), token(68))
    turn, _ = await run(engine, sessions=sessions, seconds=0.05)
    assert (turn.outputs[0].content, turn.outputs[0].finish_reason) == ("AB", "length")
    assert kept(sessions) == 2


async def test_what_ends_late_by_itself_ends_as_it_would() -> None:
    engine = Engine(ADMITTED, token(65), (0.1, TokenBatch(token_ids=(66, END), finish_reason="stop")))
    turn, _ = await run(engine, seconds=0.05)
    assert (turn.outputs[0].content, turn.outputs[0].finish_reason) == ("AB", "stop")


async def test_replies_that_have_ended_do_not_end_again() -> None:
    ended = TokenBatch(token_ids=(END,), index=1, finish_reason="stop")
    engine = Engine(ADMITTED, token(65), ended, token(66, 2), (0.1, token(67)))
    turn, deltas = await run(engine, seconds=0.05, n=3)
    assert [output.finish_reason for output in turn.outputs] == ["length", "stop", "length"]
    assert [delta.index for delta in deltas if delta.last] == [1, 0]


async def test_an_engine_that_never_waits() -> None:
    class Endless(Engine):
        async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
            while True:
                yield token(65)

    with anyio.fail_after(60):
        turn, _ = await run(Endless(), seconds=0.01)
    assert turn.outputs[0].finish_reason == "length"


async def test_a_scope_of_the_reader_is_none_of_its_business() -> None:
    engine = Engine(ADMITTED, token(65), token(66), (30, token(67)))
    with anyio.move_on_after(0.05) as scope:
        await run(engine, seconds=20)
    assert scope.cancelled_caught
    assert not engine.open


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_takes_too_long_ends_with_length_and_is_kept(stream: bool) -> None:
    models = [ECHO | {"engine": {"tokens_per_second": 100}}]
    async with running(models=models, limits={"generation_seconds": 0.2}) as client:
        reply = await client.chat("hello " * 50, stream=stream)
        assert backend_of(client).status().running == 0
        listed = await client.get("/v1/sessions")
    assert reply.status == 200
    if stream:
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in reply.chunks)
        reason = reply.chunks[-1]["choices"][0]["finish_reason"]
        assert reply.events[-1].data == "[DONE]"
    else:
        (choice,) = reply.json()["choices"]
        text, reason = choice["message"]["content"], choice["finish_reason"]
    assert reason == "length"
    assert 0 < len(text) < 100
    assert ("hello " * 50).startswith(text)
    assert [session["messages"] for session in listed.json()["data"]] == [2]
