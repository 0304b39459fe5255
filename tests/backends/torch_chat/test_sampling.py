"""Penalties, grammars, log-probabilities and several replies, through the engine, against plain transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

pytest.importorskip("torch")

import torch

from ark.chat.grammar import ANY_OBJECT, Answer, grammar
from ark.engines.chat import Grammar, SamplingParams, TokenBatch
from ark.errors import TooManyRequests
from ark_backends.kit.grammar import GrammarFailed, Grammars
from ark_backends.kit.grammar_queue import GrammarQueue
from ark_backends.kit.logits import Penalties, apply_penalties

pytestmark = pytest.mark.anyio

GREEDY = SamplingParams(temperature=0.0)
Words = Callable[[int, int], list[int]]


async def collect(chat: Any, job: Any) -> dict[int, list[TokenBatch]]:
    """The batches of each reply."""
    batches: dict[int, list[TokenBatch]] = {}
    async for batch in chat.backend.generate(job):
        batches.setdefault(batch.index, []).append(batch)
    return batches


def tokens(batches: list[TokenBatch]) -> list[int]:
    return [token for batch in batches for token in batch.token_ids]


def plain_logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model.plain(torch.tensor([ids])).logits[0, -1]
    return logits.float()


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0, frequency_penalty=1.5),
        SamplingParams(temperature=0.0, presence_penalty=2.0, repetition_penalty=1.3),
        SamplingParams(temperature=0.0, logit_bias={5: 4.0, 7: -100.0}),
        SamplingParams(temperature=0.0, repetition_penalty=0.7),
    ],
)
async def test_penalties_against_a_plain_loop(llama: Any, opened: Any, words: Words, params: SamplingParams) -> None:
    prompt = words(9, 0)
    expected: list[int] = []
    for _ in range(12):
        one = Penalties(params, prompt, (), 199)
        for token in expected:
            one.add(token)
        logits = plain_logits(llama, prompt + expected)
        expected.append(int(apply_penalties(logits[None], [one]).argmax()))
    async with opened(llama) as chat:
        # Beside others, which are not to feel it.
        replies: list[Any] = [None, None]

        async def run(place: int, sampling: SamplingParams) -> None:
            replies[place] = await chat.run(prompt, 12, sampling=sampling)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, 0, params)
            tasks.start_soon(run, 1, GREEDY)
        assert replies[0].tokens == expected
        assert replies[1].tokens == llama.greedy(prompt, 12)


async def test_no_stop_before_min_tokens(llama: Any, opened: Any, words: Words) -> None:
    prompt = words(9, 0)
    free = llama.greedy(prompt, 6)
    stop = frozenset(free[:2])
    async with opened(llama) as chat:
        short = await chat.run(prompt, 12, stop_token_ids=stop)
        params = SamplingParams(temperature=0.0, min_tokens=5)
        long = await chat.run(prompt, 12, stop_token_ids=stop, sampling=params)
    assert short.tokens == free[:1]
    assert not stop & set(long.tokens[:5])
    assert len(long.tokens) >= 5


async def test_log_probabilities_are_the_models(llama: Any, opened: Any, words: Words) -> None:
    prompt = words(9, 1)
    async with opened(llama) as chat:
        job = chat.job(prompt, 6, sampling=SamplingParams(temperature=0.8, top_k=3, seed=4), top_logprobs=4)
        batches = (await collect(chat, job))[0]
        silent = await collect(chat, chat.job(prompt, 3))
    ids = tokens(batches)
    found = [one for batch in batches for one in batch.logprobs]
    assert len(found) == len(ids) == 6
    for place, (token, one) in enumerate(zip(ids, found, strict=True)):
        expected = torch.log_softmax(plain_logits(llama, prompt + ids[:place]), -1)
        assert one.logprob == pytest.approx(float(expected[token]), abs=1e-3)
        values, best = expected.topk(4)
        assert [i for i, _ in one.top] == best.tolist()
        assert [value for _, value in one.top] == pytest.approx(values.tolist(), abs=1e-3)
    assert not any(batch.logprobs for batch in silent[0])


async def test_several_replies_compute_the_prompt_once(llama: Any, opened: Any, words: Words) -> None:
    prompt = words(100, 2)
    async with opened(llama, max_running=3) as chat:
        batches = await collect(chat, chat.job(prompt, 8, n=5))
        computed = chat.backend.status().prompt_tokens_computed
        status = chat.backend.status()
    assert sorted(batches) == list(range(5))
    for index in range(5):
        assert tokens(batches[index]) == llama.greedy(prompt, 8)
        assert batches[index][-1].finish_reason == "length"
    assert [batch.cached_tokens for batch in batches[0] if batch.cached_tokens is not None] == [0]
    # The last token of the prompt is read once more for each of the others: a state never has the last one.
    assert computed == len(prompt) + 4
    assert (status.jobs_finished, status.jobs_cancelled, status.running, status.waiting) == (1, 0, 0, 0)


async def test_replies_differ_and_the_first_is_that_of_one(llama: Any, opened: Any, words: Words) -> None:
    prompt = words(20, 3)
    params = SamplingParams(temperature=1.5, seed=11)
    async with opened(llama) as chat:
        one = await collect(chat, chat.job(prompt, 10, sampling=params))
        four = await collect(chat, chat.job(prompt, 10, sampling=params, n=4))
        again = await collect(chat, chat.job(prompt, 10, sampling=params, n=4))
    said = [tokens(four[index]) for index in range(4)]
    assert said[0] == tokens(one[0])
    assert said == [tokens(again[index]) for index in range(4)]
    assert len({tuple(reply) for reply in said}) == 4


async def test_a_reply_that_ends_at_once_lets_the_others_in(llama: Any, opened: Any, words: Words) -> None:
    async with opened(llama) as chat:
        batches = await collect(chat, chat.job(words(20, 3), 1, n=3))
    assert [len(tokens(batches[index])) for index in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("session", [None, "s"])
async def test_replies_that_do_not_fit_together_come_one_after_the_other(
    llama: Any, opened: Any, words: Words, session: str | None
) -> None:
    prompt = words(100, 2)
    async with opened(llama, kv_bytes=llama.kv(180)) as chat:
        batches = await collect(chat, chat.job(prompt, 8, n=4, session=session))
        assert [tokens(batches[index]) for index in range(4)] == [llama.greedy(prompt, 8)] * 4
        assert chat.backend.status().kv_bytes <= llama.kv(180)


async def test_the_session_keeps_the_kv_of_the_first_reply(llama: Any, opened: Any, words: Words) -> None:
    prompt = words(40, 4)
    params = SamplingParams(temperature=1.5, seed=5)
    async with opened(llama) as chat:
        batches = await collect(chat, chat.job(prompt, 20, sampling=params, n=3, session="s"))
        following = prompt + tokens(batches[0]) + words(5, 9)
        reply = await chat.matches(following, 4, session="s")
    assert reply.cached == len(prompt) + 20 - 1


async def test_cancelling_cancels_every_reply(llama: Any, opened: Any, words: Words) -> None:
    async with opened(llama) as chat:
        batches = chat.backend.generate(chat.job(words(20, 3), 400, n=3))
        seen = 0
        async for batch in batches:
            seen += len(batch.token_ids)
            if seen > 20:
                break
        await batches.aclose()
        await chat.matches(words(20, 5), 5)
        status = chat.backend.status()
    assert (status.jobs_cancelled, status.jobs_finished, status.running, status.waiting) == (1, 1, 0, 0)


async def test_a_reply_that_is_over_for_the_server_is_computed_no_further(
    llama: Any, opened: Any, words: Words
) -> None:
    """The first one, which the session keeps, and another."""
    prompt = words(20, 3)
    async with opened(llama) as chat:
        job = chat.job(prompt, 200, n=3, session="s")
        ends: dict[int, str | None] = {}
        counts = dict.fromkeys(range(3), 0)
        async for batch in chat.backend.generate(job):
            counts[batch.index] += len(batch.token_ids)
            if batch.index != 1 and counts[batch.index] >= 10:
                job.dropped.add(batch.index)
            if batch.finish_reason is not None:
                ends[batch.index] = batch.finish_reason
        assert ends == {0: "stop", 1: "length", 2: "stop"}
        assert counts[1] == 200
        assert max(counts[0], counts[2]) < 150
        status = chat.backend.status()
        assert (status.jobs_finished, status.jobs_cancelled, status.running) == (1, 0, 0)
        reply = await chat.matches(prompt + llama.greedy(prompt, 8), 3, session="s")
        assert reply.cached >= len(prompt) + 7


async def test_each_reply_takes_a_place(llama: Any, opened: Any, words: Words) -> None:
    async with opened(llama, max_running=2, max_queue=2) as chat:
        first = chat.backend.generate(chat.job(words(20, 3), 300, n=3))
        await anext(first)
        with pytest.raises(TooManyRequests):
            await chat.run(words(20, 4), 3, n=2)
        await chat.run(words(20, 4), 3)
        await first.aclose()


def bytes_grammars() -> Grammars:
    """The tiny models' 199 ids as bytes; those of text are in their order."""
    table = [bytes([i]) for i in range(199)]
    return Grammars(table, hidden=[0, 1], ends=[2])


def json_object() -> Grammar:
    made = grammar(Answer(ANY_OBJECT), None, None)
    assert made is not None
    return made


@pytest.mark.parametrize("temperature", [0.0, 1.5])
async def test_a_grammar_binds_its_job_and_no_other(llama: Any, opened: Any, words: Words, temperature: float) -> None:
    prompt = words(12, 6)
    async with opened(llama) as chat:
        chat.backend._grammars = GrammarQueue(bytes_grammars())
        # Text that ends: quotes and brackets are made likely.
        bias = {ord('"'): 9.0, ord("}"): 9.0, ord("{"): -9.0, ord("["): -9.0}
        params = SamplingParams(temperature=temperature, seed=1, logit_bias=bias)
        job = chat.job(prompt, 120, sampling=params, grammar=json_object(), n=3, stop_token_ids=frozenset({2}))
        found: list[Any] = [None, None]

        async def bound() -> None:
            found[0] = await collect(chat, job)

        async def free() -> None:
            found[1] = await chat.run(prompt, 40)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bound)
            tasks.start_soon(free)
        assert found[1].tokens == llama.greedy(prompt, 40)
        for index in range(3):
            reply = tokens(found[0][index])
            assert found[0][index][-1].finish_reason == "stop"
            assert reply[-1] == 2
            assert isinstance(json.loads(bytes(reply[:-1]).decode("latin-1")), dict)
        with chat.backend._grammars._grammars._children.child() as child:
            pass
    # Its children end with the model.
    assert not child.alive


async def test_a_grammar_that_fails_in_the_middle_fails_its_job_alone(
    llama: Any, opened: Any, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ark_backends.kit.grammar import Matcher

    fill, count = Matcher.fill, 0

    def failing(self: Matcher, row: torch.Tensor) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise GrammarFailed("The grammar is too complex to go on with.")
        fill(self, row)

    monkeypatch.setattr(Matcher, "fill", failing)
    async with opened(llama) as chat:
        chat.backend._grammars = GrammarQueue(bytes_grammars())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(chat.matches, words(12, 7), 40)
            with pytest.raises(GrammarFailed):
                await chat.run(words(12, 6), 40, grammar=json_object())
        assert chat.backend.status().jobs_failed == 1
        await chat.matches(words(12, 8), 5)
