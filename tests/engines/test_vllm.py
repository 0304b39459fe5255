"""The backend `remote` in front of vLLM, by both of its routes that take token ids."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from asgi_client import until
from fixture_models import TINY_CHAT
from running import serve

from ark.app import create_app
from ark.config import Config, KeyConfig, ModelConfig, SamplingConfig
from ark.engines.chat import GenerationJob, Grammar, SamplingParams, TokenBatch
from ark.errors import BadRequest
from ark_backends.remote import Remote
from ark_backends.remote.chat import RemoteChat
from ark_backends.remote.vllm import COMPLETIONS, TOKENS
from ark_conformance.clients import Server
from ark_conformance.plugin import ConformanceCall
from ark_conformance.target import Target

pytestmark = [pytest.mark.anyio, pytest.mark.engines]

OWN, OTHER = "sk-own", "sk-other"
KEYS = tuple(KeyConfig(name=key, sha256=hashlib.sha256(key.encode()).hexdigest()) for key in (OWN, OTHER))

CALLS = [
    *("bad-values", "chat", "completions", "disconnects", "errors", "formats", "responses", "sampling"),
    *("sessions-cookie", "sessions-named", "simplified", "skills", "streaming", "tools"),
]
OTHERWISE = [
    # Of log-probabilities with a bias, of other models, and what depends on the size of blocks and on chance.
    *("sampling/an-endless-bias", "errors/another-task", "errors/a-wrong-method"),
    *("sessions-cookie/only-what-is-new-is-computed", "sampling/a-seed"),
]

GREEDY = SamplingParams(temperature=0.0)
QUESTION = "My name is Ada. What is the weather? "


@pytest.fixture(params=[TOKENS, COMPLETIONS])
async def backend(vllm: str, request: pytest.FixtureRequest) -> AsyncIterator[RemoteChat]:
    opened = await Remote.open(ModelConfig(name="far", path=str(TINY_CHAT), engine={"url": vllm}))
    opened._opened.api.path = request.param
    yield opened
    await opened.close()


def job(backend: RemoteChat, content: str = QUESTION * 30, **fields: Any) -> GenerationJob:
    tokenizer = backend.tokenizer
    fields = {"max_tokens": 12, "sampling": GREEDY, "stop_token_ids": tokenizer.stop_token_ids, **fields}
    prompt = tokenizer.encode(tokenizer.render([{"role": "user", "content": content}]))
    return GenerationJob(**{"request_id": "1", "prompt": prompt, "owner": "ada", **fields})


async def run(backend: RemoteChat, wanted: GenerationJob) -> list[TokenBatch]:
    async with aclosing(backend.generate(wanted)) as batches:
        return [batch async for batch in batches]


def ids_of(batches: Sequence[TokenBatch], index: int = 0) -> list[int]:
    return [token for batch in batches if batch.index == index for token in batch.token_ids]


def own(vllm: str, wanted: GenerationJob, **fields: Any) -> dict[str, Any]:
    """What vLLM answers by itself, not streamed."""
    body = {"model": "tiny-chat", "prompt": list(wanted.prompt), "max_tokens": wanted.max_tokens, "temperature": 0}
    body |= {"return_token_ids": True, "stop_token_ids": sorted(wanted.stop_token_ids), **fields}
    choice: dict[str, Any] = httpx.post(f"{vllm}/v1/completions", json=body, timeout=120).json()["choices"][0]
    return choice


async def test_greedy_tokens_are_the_engines_own(backend: RemoteChat, vllm: str) -> None:
    wanted = job(backend, max_tokens=100)
    batches = await run(backend, wanted)
    assert ids_of(batches) == own(vllm, wanted)["token_ids"]
    assert (batches[0].token_ids, batches[-1].finish_reason) == ((), "stop")
    assert ids_of(batches)[-1] in wanted.stop_token_ids


async def test_owners_share_no_state(backend: RemoteChat) -> None:
    owner = secrets.token_hex(8)
    first = await run(backend, job(backend, owner=owner))
    again = await run(backend, job(backend, owner=owner))
    other = await run(backend, job(backend, owner=f"not {owner}"))
    # In whole blocks, and of the last token there is no state.
    whole = (len(job(backend).prompt) - 1) // 32 * 32
    assert [batches[-1].cached_tokens for batches in (first, again, other)] == [0, whole, 0]


async def test_log_probabilities(backend: RemoteChat, vllm: str) -> None:
    wanted = job(backend, max_tokens=4, top_logprobs=2)
    found = [logprob for batch in await run(backend, wanted) for logprob in batch.logprobs]
    theirs = own(vllm, wanted, logprobs=2)["logprobs"]
    assert [one.logprob for one in found] == pytest.approx(theirs["token_logprobs"], abs=1e-3)
    assert [len(one.top) for one in found] == [2] * 4
    assert [one.top[0][1] for one in found] == pytest.approx(theirs["token_logprobs"], abs=1e-3)
    with pytest.raises(BadRequest, match="before penalties"):
        await run(backend, job(backend, top_logprobs=0, sampling=SamplingParams(frequency_penalty=1.0)))


async def test_several_replies_and_seeds(backend: RemoteChat) -> None:
    sampled = SamplingParams(seed=5, temperature=1.5)
    batches = await run(backend, job(backend, n=3, sampling=sampled))
    assert ids_of(batches) == ids_of(await run(backend, job(backend, sampling=sampled)))
    assert len({tuple(ids_of(batches, index)) for index in range(3)}) > 1
    assert sorted(batch.index for batch in batches if batch.finish_reason) == [0, 1, 2]


async def test_a_grammar(backend: RemoteChat) -> None:
    lark = '%llguidance {"no_forcing": true}\nstart: "<think>" /[a-z]{3}/ "</think>" "\U0001f642"\n'
    batches = await run(backend, job(backend, grammar=Grammar(lark=lark), max_tokens=40))
    text = backend.tokenizer.decode(ids_of(batches)[:-1])
    assert (text[:7], text[10:], batches[-1].finish_reason) == ("<think>", "</think>\U0001f642", "stop")


async def test_sampling(backend: RemoteChat) -> None:
    biased = {"temperature": 0.0, "logit_bias": {77: 100.0}, "min_tokens": 2, "frequency_penalty": 1.0}
    more = {"presence_penalty": 0.5, "repetition_penalty": 1.1, "top_k": 3, "top_p": 0.9, "min_p": 0.1}
    assert ids_of(await run(backend, job(backend, sampling=SamplingParams(**biased, **more)))) == [77] * 12


async def test_ends(backend: RemoteChat) -> None:
    whole = ids_of(await run(backend, job(backend)))
    early = await run(backend, job(backend, stop_token_ids=frozenset({whole[3]})))
    assert (ids_of(early), early[-1].finish_reason) == (whole[:4], "stop")
    # As `ignore_eos` asks for it.
    late = await run(backend, job(backend, stop_token_ids=frozenset(), max_tokens=20))
    assert (len(ids_of(late)), late[-1].finish_reason) == (20, "length")


async def test_closing_a_reply_ends_it_in_the_engine(backend: RemoteChat, vllm: str) -> None:
    async with aclosing(backend.generate(job(backend, stop_token_ids=frozenset(), max_tokens=3000))) as batches:
        async for batch in batches:
            if batch.token_ids:
                break
        assert running(vllm) == 1
    await until(lambda: running(vllm) == 0)


def running(vllm: str) -> float:
    lines = httpx.get(f"{vllm}/metrics", timeout=60).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:num_requests_running"))


@pytest.fixture(scope="module")
def vllm_target(vllm: str) -> Iterator[Target]:
    model = ModelConfig(
        name="tiny-chat",
        path=str(TINY_CHAT),
        backend="remote",
        engine={"url": vllm},
        sampling=SamplingConfig(temperature=0.0),
    )
    with serve(create_app(Config(models=(model,), keys=KEYS))) as server:
        yield Target.ask(Server(base_url=f"{server.url}/v1", api_key=OWN, other_key=OTHER))


@pytest.mark.conformance(profile="ark", only=CALLS, exclude=OTHERWISE)
def test_ark_in_front_of_vllm(conformance_call: ConformanceCall, vllm_target: Target) -> None:
    """Tools are refused, and the calls that need them are left out."""
    reason = ""
    try:
        conformance_call(vllm_target)
    except pytest.skip.Exception as skipped:
        reason = str(skipped)
    assert not reason or "does not honour" in reason, reason
