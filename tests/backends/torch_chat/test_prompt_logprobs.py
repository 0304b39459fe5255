"""How likely the tokens of a prompt are, whatever pieces it is computed in and whatever runs beside it."""

import asyncio

import pytest
import torch

from ark.engines.chat import SamplingParams

pytestmark = pytest.mark.anyio

CLOSE = {"abs": 1e-4}


async def scored(chat, prompt, *, count=1, **more):
    """What a job tells of its prompt, and its tokens."""
    found, tokens = [], []
    job = chat.job(prompt, count, prompt_logprobs=True, top_logprobs=3, **more)
    async for batch in chat.backend.generate(job):
        assert not (batch.prompt_logprobs and tokens), "the prompt comes before the reply"
        found += batch.prompt_logprobs
        tokens += batch.token_ids if batch.index == 0 else ()
    return found, tokens


def expected(model, prompt):
    """Log-probabilities (tokens, vocabulary) of what follows each token, by the model itself."""
    with torch.inference_mode():
        return torch.log_softmax(model.plain(torch.tensor([prompt])).logits[0].float(), dim=-1)


@pytest.mark.parametrize("length", [2, 31, 32, 33, 100])
async def test_they_are_the_models_own(llama, opened, words, length):
    prompt = words(length)
    async with opened(llama) as chat:
        found, _ = await scored(chat, prompt)
    table = expected(llama, prompt)
    assert len(found) == length - 1
    for place, one in enumerate(found):
        assert one.logprob == pytest.approx(float(table[place, prompt[place + 1]]), **CLOSE)
        best = table[place].topk(3)
        assert [token for token, _ in one.top] == best.indices.tolist()
        assert [logprob for _, logprob in one.top] == pytest.approx(best.values.tolist(), **CLOSE)


async def test_one_token_has_nothing_before_it(llama, opened):
    async with opened(llama) as chat:
        assert (await scored(chat, [5]))[0] == []


async def test_they_come_again_where_the_prompt_is_cached(llama, opened, words):
    prompt = words(50)
    async with opened(llama) as chat:
        first, tokens = await scored(chat, prompt, count=4)
        again, same = await scored(chat, prompt, count=4)
        plain = await chat.run(prompt, 4)
    assert len(again) == len(prompt) - 1
    assert [one.logprob for one in again] == pytest.approx([one.logprob for one in first], **CLOSE)
    assert tokens == same == plain.tokens
    assert plain.cached == len(prompt) - 1


async def test_neighbours_change_nothing(llama, opened, words):
    prompts = [words(40, seed) for seed in range(3)]
    async with opened(llama) as chat:
        alone = [await scored(chat, prompt, count=5) for prompt in prompts]
        jobs = [scored(chat, prompt, count=5) for prompt in prompts]
        *beside, _ = await asyncio.gather(*jobs, chat.run(words(60, 9), 20))
    for (one, tokens), (other, others) in zip(alone, beside, strict=True):
        assert [a.logprob for a in one] == pytest.approx([b.logprob for b in other], **CLOSE)
        assert tokens == others


async def test_a_job_that_is_preempted_tells_each_token_once(llama, opened, words):
    prompts = [words(90, seed) for seed in range(3)]
    async with opened(llama, kv_bytes=llama.kv(300)) as chat:
        found = await asyncio.gather(*(scored(chat, prompt, count=60) for prompt in prompts))
    for prompt, (one, tokens) in zip(prompts, found, strict=True):
        table = expected(llama, prompt)
        wanted = [float(table[place, prompt[place + 1]]) for place in range(len(prompt) - 1)]
        assert [a.logprob for a in one] == pytest.approx(wanted, **CLOSE)
        assert len(tokens) == 60


async def test_penalties_and_temperature_change_the_reply_alone(llama, opened, words):
    prompt = words(20)
    sampling = SamplingParams(temperature=2.0, seed=1, repetition_penalty=1.5, logit_bias={3: 50})
    async with opened(llama) as chat:
        plain, _ = await scored(chat, prompt)
        other, _ = await scored(chat, prompt, sampling=sampling)
    assert [one.logprob for one in other] == pytest.approx([one.logprob for one in plain], **CLOSE)


async def test_of_several_replies_the_first_tells(llama, opened, words):
    async with opened(llama) as chat:
        found, _ = await scored(chat, words(10), n=3, sampling=SamplingParams(seed=1))
    assert len(found) == 9
