"""Server-sent events, and the comments between them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sse import Event, read_events

from ark.http.request import WriteTimeout
from ark.http.sse import KEEP_ALIVE, EventWriter, json_event, text_event

texts = st.text() | st.text("\r\n :ad\u2028\x00\x0b\x0c\x85\ufeff", max_size=12)


@given(texts)
def test_text_comes_back_from_an_event(text: str) -> None:
    wanted = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    assert read_events(text_event(text).decode()) == [Event(wanted)]


@given(st.lists(texts, max_size=5))
def test_events_do_not_run_together(several: list[str]) -> None:
    stream = b"".join(map(text_event, several)) + json_event(b'{"a":1}')
    assert len(read_events(stream.decode())) == len(several) + 1


class Wire:
    """Takes `seconds` for each write, and notes what is written and whether two writes ever overlap."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.written: list[bytes] = []
        self.overlapped = False
        self._busy = False

    async def write(self, data: bytes) -> None:
        self.overlapped |= self._busy
        self._busy = True
        await anyio.sleep(self.seconds)
        self._busy = False
        self.written.append(data)


async def events(*pauses: float) -> AsyncIterator[bytes]:
    for number, pause in enumerate(pauses):
        await anyio.sleep(pause)
        yield b"%d" % number


async def stream(wire: Wire, *pauses: float, interval: float = 10.0, patience: float = 10.0) -> list[bytes]:
    writer = EventWriter(wire.write, interval=interval, timeout=patience)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.keep_alive)
            await writer.write_all(events(*pauses))
    assert not wire.overlapped
    return wire.written


@pytest.mark.anyio
async def test_events_without_a_pause_have_no_comments() -> None:
    assert await stream(Wire(), 0.0, 0.0, 0.0) == [b"0", b"1", b"2"]


@pytest.mark.anyio
async def test_a_comment_for_each_interval_of_silence() -> None:
    written = await stream(Wire(), 0.0, 0.5, 0.0, interval=0.1)
    comments = written.count(KEEP_ALIVE)
    assert 3 <= comments <= 5
    assert written == [b"0", *[KEEP_ALIVE] * comments, b"1", b"2"]


@pytest.mark.anyio
@pytest.mark.parametrize("pause", [0.0, 0.003, 0.02])
async def test_an_event_and_a_comment_are_never_written_at_once(pause: float) -> None:
    written = await stream(Wire(0.01), *[pause] * 30, interval=0.004)
    assert [one for one in written if one != KEEP_ALIVE] == [b"%d" % number for number in range(30)]
    assert pause < 0.02 or KEEP_ALIVE in written


@pytest.mark.anyio
@pytest.mark.parametrize("pauses", [(0.0,), (10.0,)], ids=["an event", "a comment"])
async def test_what_the_client_does_not_read_is_given_up(pauses: tuple[float, ...]) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await stream(Wire(20.0), *pauses, interval=0.05, patience=0.2)
    assert caught.group_contains(WriteTimeout)
