"""Penalties, grammars, seeds, samplers and log-probabilities, through the real generator, against plain arithmetic."""

import asyncio
import json
from collections import Counter

import paged_model
import pytest

from ark.chat.grammar import ANY_OBJECT, Answer, grammar
from ark.engines.chat import SamplingParams
from ark_backends.kit.grammar_queue import GrammarQueue

pytestmark = pytest.mark.anyio


async def collect(chat, job):
    """The batches of each reply."""
    batches = {}
    async for batch in chat.backend.generate(job):
        batches.setdefault(batch.index, []).append(batch)
    return batches


def tokens(batches):
    return [token for batch in batches for token in batch.token_ids]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.0, frequency_penalty=1.5),
        SamplingParams(temperature=0.0, presence_penalty=2.0, repetition_penalty=1.3),
        SamplingParams(temperature=0.0, logit_bias={5: 9.0, 7: -100.0}),
        SamplingParams(temperature=0.0, repetition_penalty=0.7),
    ],
)
async def test_penalties_against_a_plain_loop(opened, words, params):
    from ark_backends.kit.logits import Penalties, apply_penalties

    # A prompt that has what the model likes to say, so that a penalty for it is seen.
    prompt = words(300) + paged_model.greedy(words(300), 30)
    expected = []
    for _ in range(30):
        one = Penalties(params, prompt, (), paged_model.VOCABULARY)
        for token in expected:
            one.add(token)
        expected.append(int(apply_penalties(paged_model.expected(prompt + expected)[None], [one]).argmax()))
    async with opened() as chat:
        # Beside others, which are not to feel it.
        bound, free = await asyncio.gather(chat.run(prompt, 30, sampling=params), chat.matches(prompt, 30))
    assert bound.tokens == expected
    assert bound.tokens != free.tokens


async def test_penalties_go_on_when_more_pages_are_set_aside(opened, words):
    params = SamplingParams(temperature=0.0, frequency_penalty=0.8)
    async with opened(reserve=256) as chat:
        parts = await chat.run(words(20), 700, sampling=params)
    async with opened(reserve=1024) as chat:
        whole = await chat.run(words(20), 700, sampling=params)
    assert parts.tokens == whole.tokens


async def test_no_stop_before_min_tokens(opened, words):
    free = paged_model.greedy(words(9), 6)
    stop = frozenset(free[:2])
    async with opened() as chat:
        short = await chat.run(words(9), 12, stop_token_ids=stop)
        params = SamplingParams(temperature=0.0, min_tokens=5)
        long = await chat.run(words(9), 12, stop_token_ids=stop, sampling=params)
    assert short.tokens == free[:1]
    assert not stop & set(long.tokens[:5])
    assert len(long.tokens) >= 5


async def test_log_probabilities_are_the_models(opened, words):
    import torch

    prompt = words(300)
    async with opened() as chat:
        job = chat.job(prompt, 6, sampling=SamplingParams(temperature=0.8, top_k=3, seed=4), top_logprobs=4)
        batches = (await collect(chat, job))[0]
        silent = await collect(chat, chat.job(prompt, 3))
    ids = tokens(batches)
    found = [one for batch in batches for one in batch.logprobs]
    assert len(found) == len(ids) == 6
    for place, (token, one) in enumerate(zip(ids, found, strict=True)):
        expected = torch.log_softmax(paged_model.expected(prompt + ids[:place]), -1)
        assert one.logprob == pytest.approx(float(expected[token]), abs=1e-4)
        values, best = expected.topk(4)
        assert [i for i, _ in one.top] == best.tolist()
        assert [value for _, value in one.top] == pytest.approx(values.tolist(), abs=1e-4)
    assert not any(batch.logprobs for batch in silent[0])


async def test_replies_differ_and_the_first_is_that_of_one(opened, words):
    params = SamplingParams(temperature=1.5, seed=11)
    async with opened() as chat:
        one = await collect(chat, chat.job(words(20), 10, sampling=params))
        four = await collect(chat, chat.job(words(20), 10, sampling=params, n=4))
        again = await collect(chat, chat.job(words(20), 10, sampling=params, n=4))
        minus = await collect(chat, chat.job(words(20), 10, sampling=SamplingParams(temperature=1.5, seed=-11)))
    said = [tokens(four[index]) for index in range(4)]
    assert said[0] == tokens(one[0])
    assert said == [tokens(again[index]) for index in range(4)]
    assert len({tuple(reply) for reply in said}) == 4
    assert tokens(minus[0]) != said[0]


async def test_a_seed_gives_the_same_whatever_is_set_aside_or_beside_it(opened, words):
    params = SamplingParams(temperature=1.0, seed=3)
    async with opened(reserve=256) as chat:
        beside = asyncio.create_task(chat.run(words(30), 600))
        parts = await chat.run(words(20), 600, sampling=params)
        await beside
    async with opened(reserve=1024) as chat:
        whole = await chat.run(words(20), 600, sampling=params)
    assert parts.tokens == whole.tokens


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        (SamplingParams(temperature=2.0, top_k=3), 3),
        (SamplingParams(temperature=1.0, top_p=0.3), None),
        (SamplingParams(temperature=2.0, min_p=1.0), 1),
        (SamplingParams(temperature=2.0, top_k=1), 1),
    ],
)
async def test_samplers_keep_what_they_should(opened, words, params, kept):
    import msgspec
    import torch

    expected = torch.softmax(paged_model.expected(words(20)) / params.temperature, -1)
    ranked, ids = expected.sort(descending=True)
    if kept is None:
        kept = int((ranked.cumsum(0) - ranked < params.top_p).sum())
    async with opened(max_running=16) as chat:
        jobs = [chat.run(words(20), 1, sampling=msgspec.structs.replace(params, seed=seed)) for seed in range(80)]
        drawn = Counter(reply.tokens[0] for reply in await asyncio.gather(*jobs))
    assert set(drawn) <= set(ids[:kept].tolist())
    assert len(drawn) == 1 if kept == 1 else len(drawn) > 1


async def test_defaults_sample_from_the_models_own_distribution(opened, words):
    import torch

    expected = torch.softmax(paged_model.expected(words(20)), -1)
    async with opened(max_running=16, max_queue=400) as chat:
        jobs = [chat.run(words(20), 1, sampling=SamplingParams(seed=seed)) for seed in range(400)]
        drawn = Counter(reply.tokens[0] for reply in await asyncio.gather(*jobs))
    likely = int(expected.argmax())
    share = float(expected[likely])
    # Four standard deviations.
    assert abs(drawn[likely] / 400 - share) < 4 * (share * (1 - share) / 400) ** 0.5
    # The generator's own defaults would leave the first fifty only, of which top_p leaves a part.
    assert any(expected[token] < 0.01 for token in drawn)


def bytes_grammars():
    """The model's 199 ids as bytes; those of text are in their order."""
    from ark_backends.kit.grammar import Grammars

    table = [bytes([i]) for i in range(paged_model.VOCABULARY)]
    return Grammars(table, hidden=[0, 1], ends=[2])


# Text that ends: quotes and brackets are made likely.
ENDING = {ord('"'): 9.0, ord("}"): 9.0, ord("{"): -9.0, ord("["): -9.0}


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("draft_tokens", [0, 3])
async def test_a_grammar_binds_its_job_and_no_other(opened, words, temperature, draft_tokens):
    async with opened(draft_tokens=draft_tokens) as chat:
        chat.backend._grammars = GrammarQueue(bytes_grammars())
        params = SamplingParams(temperature=temperature, seed=1, logit_bias=ENDING)
        made = grammar(Answer(ANY_OBJECT), None, None)
        job = chat.job(words(12), 300, sampling=params, grammar=made, n=3, stop_token_ids=frozenset({2}))
        bound, _ = await asyncio.gather(collect(chat, job), chat.matches(words(12), 40))
        for index in range(3):
            reply = tokens(bound[index])
            assert bound[index][-1].finish_reason == "stop"
            assert reply[-1] == 2
            assert isinstance(json.loads(bytes(reply[:-1]).decode("latin-1")), dict)


async def test_a_complete_grammar_ends_before_min_tokens(opened, words):
    async with opened() as chat:
        chat.backend._grammars = GrammarQueue(bytes_grammars())
        params = SamplingParams(temperature=0.0, min_tokens=200, logit_bias=ENDING)
        made = grammar(Answer({"type": "boolean"}), None, None)
        reply = await chat.run(words(12), 300, sampling=params, grammar=made, stop_token_ids=frozenset({2}))
    assert reply.finish == "stop"
    assert json.loads(bytes(reply.tokens[:-1])) in {True, False}


async def test_a_grammar_that_fails_in_the_middle_fails_its_job_alone(opened, words, monkeypatch):
    from ark_backends.kit.grammar import GrammarFailed, Matcher

    fill, count = Matcher.fill, 0

    def failing(self, row):
        nonlocal count
        count += 1
        if count == 4:
            raise GrammarFailed("The grammar is too complex to go on with.")
        fill(self, row)

    monkeypatch.setattr(Matcher, "fill", failing)
    async with opened() as chat:
        chat.backend._grammars = GrammarQueue(bytes_grammars())
        free = asyncio.create_task(chat.matches(words(12), 60))
        with pytest.raises(GrammarFailed):
            await chat.run(words(13), 60, grammar=grammar(Answer(ANY_OBJECT), None, None))
        await free
        assert chat.backend.status().jobs_failed == 1
        await chat.matches(words(14), 5)


async def test_tokens_that_cannot_be_noted_fail_their_job_alone(opened, words, monkeypatch):
    from ark.errors import Unavailable
    from ark_backends.kit.logits import Penalties

    def failing(self, token):
        raise ValueError("secret internals")

    monkeypatch.setattr(Penalties, "add", failing)
    async with opened() as chat:
        free = asyncio.create_task(chat.matches(words(12), 60))
        with pytest.raises(Unavailable) as caught:
            await chat.run(words(13), 60, sampling=SamplingParams(frequency_penalty=1.0))
        assert "secret" not in caught.value.message
        await free
