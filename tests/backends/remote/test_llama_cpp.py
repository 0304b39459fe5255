"""The backend `remote` in front of llama.cpp's own server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from asgi_client import until
from gguf_files import byte_tokens, save_vocabulary
from llama_server import LlamaServer
from tiny_gguf import CONTEXT

from ark.config import ConfigError, ModelConfig
from ark.engines.chat import GenerationJob, Grammar, SamplingParams, TokenBatch
from ark.errors import APIError, BadRequest
from ark_backends.remote import Remote
from ark_backends.remote.chat import RemoteChat

pytestmark = pytest.mark.anyio

GREEDY = SamplingParams(temperature=0.0)
SAMPLED = SamplingParams(seed=7)
PROMPT = [1, *range(30, 60)]


def configured(weights: Path, *urls: str, **engine: Any) -> ModelConfig:
    return ModelConfig(name="far", path=str(weights), backend="remote", engine={"url": [*urls], **engine})


def job(**fields: Any) -> GenerationJob:
    return GenerationJob(**{"request_id": "1", "prompt": PROMPT, "max_tokens": 12, "sampling": GREEDY, **fields})


async def run(backend: RemoteChat, wanted: GenerationJob) -> list[TokenBatch]:
    async with aclosing(backend.generate(wanted)) as batches:
        return [batch async for batch in batches]


async def tokens(backend: RemoteChat, wanted: GenerationJob, index: int = 0) -> list[int]:
    return ids_of(await run(backend, wanted), index)


def ids_of(batches: Sequence[TokenBatch], index: int = 0) -> list[int]:
    return [token for batch in batches if batch.index == index for token in batch.token_ids]


def own(engine: LlamaServer, count: int = 12, prompt: Sequence[int] = PROMPT, **fields: Any) -> dict[str, Any]:
    """What the engine answers by itself, not streamed."""
    body = {"prompt": list(prompt), "n_predict": count, "temperature": 0, "return_tokens": True, **fields}
    return engine.ask("/completion", **body)


@pytest.fixture
async def backend(weights: Path, engine: LlamaServer) -> AsyncIterator[RemoteChat]:
    opened = await Remote.open(configured(weights, engine.url))
    yield opened
    await opened.close()


async def test_greedy_tokens_are_the_engines_own(backend: RemoteChat, engine: LlamaServer) -> None:
    batches = await run(backend, job())
    assert ids_of(batches) == own(engine)["tokens"]
    assert len(ids_of(batches)) == 12
    assert batches[0].token_ids == ()
    assert batches[0].cached_tokens is not None
    assert batches[-1].finish_reason == "length"
    assert backend.status().jobs_finished == 1
    assert backend.context_length == CONTEXT


async def test_what_a_conversation_has_computed_is_not_computed_again(backend: RemoteChat) -> None:
    prompt = [1, *range(100, 150)]
    reply = await tokens(backend, job(prompt=prompt, session="a"))
    batches = await run(backend, job(prompt=[*prompt, *reply, 40, 41], session="a"))
    # The last token has no state.
    assert batches[0].cached_tokens == len(prompt) + len(reply) - 1
    assert backend.status().prompt_tokens_cached >= len(prompt)


async def test_the_same_seed_gives_the_same_tokens(backend: RemoteChat) -> None:
    first, again, other = [
        await tokens(backend, job(sampling=SamplingParams(seed=seed))) for seed in (-(2**63), -(2**63), 5)
    ]
    assert first == again != other


async def test_log_probabilities(backend: RemoteChat, engine: LlamaServer) -> None:
    batches = await run(backend, job(top_logprobs=2))
    found = [logprob for batch in batches for logprob in batch.logprobs]
    assert len(found) == 12
    for one, theirs in zip(found, own(engine, n_probs=2)["completion_probabilities"], strict=True):
        assert one.logprob == pytest.approx(theirs["logprob"], abs=1e-3)
        assert [token for token, _ in one.top] == [top["id"] for top in theirs["top_logprobs"]]


async def test_sampling_knows_no_other_filters_than_those_that_are_asked_for(backend: RemoteChat) -> None:
    """The server's own default has four, and the most likely tokens of a random model are far from all."""
    seen = {token for seed in range(12) for token in await tokens(backend, job(sampling=SamplingParams(seed=seed)))}
    few = SamplingParams(seed=1, top_k=1)
    assert len(seen) > 40
    assert await tokens(backend, job(sampling=few)) == await tokens(backend, job())


async def test_a_bias(backend: RemoteChat) -> None:
    biased = SamplingParams(temperature=0.0, logit_bias={77: 100.0})
    assert await tokens(backend, job(sampling=biased, max_tokens=3)) == [77] * 3


async def test_any_token_may_end_a_reply(backend: RemoteChat, engine: LlamaServer) -> None:
    whole = own(engine)["tokens"]
    batches = await run(backend, job(stop_token_ids=frozenset({whole[4]})))
    assert ids_of(batches) == whole[: whole.index(whole[4]) + 1]
    assert batches[-1].finish_reason == "stop"
    assert not [batch for batch in batches[:-1] if batch.finish_reason]


async def test_several_replies(backend: RemoteChat) -> None:
    batches = await run(backend, job(n=3, sampling=SAMPLED))
    replies = [ids_of(batches, index) for index in range(3)]
    assert replies[0] == await tokens(backend, job(sampling=SAMPLED))
    assert len({tuple(reply) for reply in replies}) == 3
    assert sorted(batch.index for batch in batches if batch.finish_reason) == [0, 1, 2]
    with pytest.raises(BadRequest, match="at most 4 replies"):
        await run(backend, job(n=5))


async def test_replies_that_nobody_reads_on_end(backend: RemoteChat) -> None:
    wanted = job(n=2, max_tokens=16000)
    batches = []
    async with aclosing(backend.generate(wanted)) as generated:
        async for batch in generated:
            batches.append(batch)
            wanted.dropped.update({0, 1})
    assert [batch.finish_reason for batch in batches if batch.finish_reason] == ["stop", "stop"]


async def test_every_id_of_a_character_comes(backend: RemoteChat, engine: LlamaServer) -> None:
    """The server streams the text of a character with its last id, and leaves out the others."""
    lark = '%llguidance {"no_forcing": true}\nstart: "\u00e9\U0001f642" /[a-c]{3}/\n'
    batches = await run(backend, job(grammar=Grammar(lark=lark), top_logprobs=1))
    whole = own(engine, grammar=lark)["tokens"]
    assert [token for token in whole if token > 2] == ids_of(batches)
    text = backend.tokenizer.decode(ids_of(batches))
    assert text[:2] == "\u00e9\U0001f642"
    found = [logprob for batch in batches for logprob in batch.logprobs]
    assert len(found) == len(ids_of(batches)) == 9
    for position, token in enumerate(ids_of(batches)):
        prompt = [*PROMPT, *ids_of(batches)[:position]]
        # A letter has a whole character, and the server says what is likely beside it.
        letter = own(engine, 1, prompt, n_probs=259, logit_bias=[[backend.tokenizer.encode("a")[0], 1000]])
        likely = {top["id"]: top["logprob"] for top in letter["completion_probabilities"][0]["top_logprobs"]}
        assert found[position].logprob == pytest.approx(likely[token], abs=1e-3)


async def test_bytes_that_are_no_character_come(backend: RemoteChat, engine: LlamaServer) -> None:
    """A model may write half a character."""
    half = backend.tokenizer.encode("\U0001f642")[0]
    biased = SamplingParams(temperature=0.0, logit_bias={half: 100.0})
    batches = await run(backend, job(sampling=biased, max_tokens=3))
    assert batches[-1].finish_reason == "length"
    assert len(ids_of(batches)) <= 3


async def test_what_the_engine_cannot_do_is_refused(backend: RemoteChat) -> None:
    honoured = backend.capabilities.parameters
    assert {"temperature", "seed", "logprobs", "n", "response_format", "repetition_penalty"} <= honoured
    assert not {"frequency_penalty", "presence_penalty", "ignore_eos", "min_tokens"} & honoured
    with pytest.raises(BadRequest, match="before penalties"):
        await run(backend, job(top_logprobs=0, sampling=SamplingParams(logit_bias={5: 1.0})))
    with pytest.raises(BadRequest, match="at most 16384 tokens"):
        await run(backend, job(max_tokens=CONTEXT))


async def test_closing_a_reply_ends_it_in_the_engine(backend: RemoteChat, engine: LlamaServer) -> None:
    async with aclosing(backend.generate(job(max_tokens=16000))) as batches:
        async for batch in batches:
            if batch.token_ids:
                break
        assert engine.busy() == 1
    await until(lambda: not engine.busy())
    status = backend.status()
    assert (status.jobs_cancelled, status.upstreams[0].cancelled, status.running) == (1, 1, 0)


async def test_a_model_of_another_tokenizer_is_not_opened(tmp_path: Path, engine: LlamaServer) -> None:
    other = tmp_path / "other.gguf"
    names = byte_tokens(259)
    save_vocabulary(other, tokens=[*names[:3], *reversed(names[3:])])
    with pytest.raises(ConfigError, match="has another tokenizer: near"):
        await Remote.open(configured(other, engine.url))


async def test_special_tokens_have_to_be_the_same(tmp_path: Path, engine: LlamaServer) -> None:
    other = tmp_path / "other.gguf"
    names = byte_tokens(259)
    save_vocabulary(other, tokens=[names[0], names[2], names[1], *names[3:]])
    with pytest.raises(ConfigError, match="has another tokenizer: near"):
        await Remote.open(configured(other, engine.url))


async def test_no_engine(weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"no engine can be used: http://127.0.0.1:9: "):
        await Remote.open(configured(weights, "http://127.0.0.1:9", open_timeout=0))


async def test_an_engine_that_is_killed(weights: Path, two_engines: tuple[LlamaServer, LlamaServer]) -> None:
    """Before its first token a job goes to the other engine, and after it ends with an error."""
    servers = {server.url: server for server in two_engines}
    backend = await Remote.open(configured(weights, *servers, health_seconds=1.0))
    try:
        expected = await tokens(backend, job(session="a"))
        url = next(one.url for one in backend.status().upstreams if one.finished)
        batches = backend.generate(job(session="a", max_tokens=16000))
        assert not (await anext(batches)).token_ids
        assert (await anext(batches)).token_ids
        servers[url].kill()
        with pytest.raises(APIError, match="engine has failed"):
            [batch async for batch in batches]
        assert await tokens(backend, job(session="a")) == expected
        ups = {one.url: one.up for one in backend.status().upstreams}
        assert not ups.pop(url)
        assert [*ups.values()] == [True]
        assert backend.status().alive
        servers[url].start()
        await until(lambda: all(one.up for one in backend.status().upstreams))
    finally:
        await backend.close()


async def test_an_engine_that_is_gone_before_anybody_knows(
    weights: Path, two_engines: tuple[LlamaServer, LlamaServer]
) -> None:
    backend = await Remote.open(configured(weights, *(server.url for server in two_engines), health_seconds=60.0))
    try:
        expected = await tokens(backend, job(session="a"))
        url = next(one.url for one in backend.status().upstreams if one.finished)
        next(server for server in two_engines if server.url == url).kill()
        assert await tokens(backend, job(session="a")) == expected
        assert sorted((one.failed, one.finished) for one in backend.status().upstreams) == [(0, 1), (1, 1)]
    finally:
        await backend.close()
