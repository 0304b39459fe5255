"""Turns of those whose grammars take long, and what becomes of a grammar that nobody waits for."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio
import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from letters import END, START, TOKENS

from ark.chat.grammar import ANY_OBJECT, SCHEMA_PARAM, Answer, grammar
from ark.engines.chat import Grammar
from ark.errors import BadRequest, Unavailable
from ark_backends.kit.child_process import LONGEST_SILENCE
from ark_backends.kit.grammar import Grammars
from ark_backends.kit.grammar_queue import GrammarQueue

pytestmark = pytest.mark.anyio


def of(schema: dict[str, Any]) -> Grammar:
    made = grammar(Answer(schema, SCHEMA_PARAM), None, None)
    assert made is not None
    return made


def expensive(number: int) -> Grammar:
    """Takes the child's memory, some seconds later, and is refused then."""
    patterns = [{"type": "string", "pattern": f".*{chr(97 + i % 26)}.{{{i}}}z{number}"} for i in range(20)]
    return of({"allOf": patterns})


@pytest.fixture
def queue() -> GrammarQueue:
    return GrammarQueue(Grammars(TOKENS, hidden=[START], ends=[END]))


async def refused(queue: GrammarQueue, given: Grammar, owner: str, ended: list[Grammar] | None = None) -> None:
    with pytest.raises(BadRequest):
        await queue.compile(given, owner)
    if ended is not None:
        ended.append(given)


async def test_simple_grammars_do_not_wait(queue: GrammarQueue) -> None:
    ended: list[Grammar] = []
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(refused, queue, expensive(number), "eve", ended)
        await anyio.sleep(0.1)
        await queue.compile(of(ANY_OBJECT), "eve")
        await queue.compile(of({"type": "object", "properties": {"a": {"type": "integer"}}}), "bob")
        assert len(ended) < 4
        tasks.cancel_scope.cancel()


async def test_what_one_owner_sends_does_not_hold_up_another(queue: GrammarQueue) -> None:
    pattern = of({"type": "string", "pattern": "^[a-z]{1,9}x$"})
    ended: list[Grammar] = []
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(refused, queue, expensive(number), "eve", ended)
        await anyio.sleep(0.1)
        await queue.compile(pattern, "bob")
        assert len(ended) < 4
        tasks.cancel_scope.cancel()


async def test_a_client_that_leaves_takes_its_work_with_it(queue: GrammarQueue) -> None:
    """Its child is stopped, and so stands for one that is busy for long."""
    pattern = of({"type": "string", "pattern": "^[a-z]{1,8}x$"})
    with queue._grammars._children.child() as child:
        os.kill(child.pid, signal.SIGSTOP)
    started = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(refused, queue, expensive(number), "eve")
        await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    assert anyio.current_time() - started < LONGEST_SILENCE
    await queue.compile(pattern, "eve")
    assert len(queue._places) == 0


async def test_its_children_end_with_it(queue: GrammarQueue) -> None:
    await queue.compile(of({"type": "string", "pattern": "^[a-z]{1,8}y$"}), "eve")
    with queue._grammars._children.child() as child:
        pass
    assert child.alive
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refused, queue, expensive(1), "eve")
        await anyio.sleep(0.1)
        queue.close()
    assert not child.alive
    with pytest.raises(Unavailable):
        await queue.compile(of({"type": "string", "pattern": "^[a-z]{1,8}z$"}), "eve")
