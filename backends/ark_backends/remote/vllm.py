"""vLLM: token ids by ``/inference/v1/generate``, or by ``/v1/completions`` where that is switched off."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal

import httpx2
import msgspec

from ark.engines.chat import GenerationJob, TokenBatch, TokenLogprob
from ark_backends.remote.api import UNLIKELY, Asked, Description, found, listed, posted, read, seed
from ark_backends.remote.client import Connection

TOKENS, COMPLETIONS = "/inference/v1/generate", "/v1/completions"

SEED_BITS = 63

PREFIX = "token_id:"
"""Of an id where OpenAI's API has a token's text."""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens_details: _Details | None = None


class _Top(msgspec.Struct):
    token_id: int
    logprob: float | None = None


class _Content(_Top):
    top_logprobs: list[_Top] = []


class _Logprobs(msgspec.Struct):
    content: list[_Content] | None = None
    """Of the first route; the others are of the second."""
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


class Vllm:
    """`ark_backends.remote.api.EngineAPI` of vLLM."""

    name = "vllm"
    path = TOKENS
    unsupported: frozenset[str] = frozenset()

    def describe(self, http: httpx2.Client, model: str | None) -> Description | None:
        version, models = found(http, "/version"), found(http, "/v1/models")
        if not isinstance(version, dict) or "version" not in version or not isinstance(models, dict):
            return None
        one = listed(models, model)
        probe = http.post(TOKENS, json={})
        # A body without tokens is refused by the route itself, where there is one. All engines get the same route.
        if probe.status_code not in (400, 422):
            self.path = COMPLETIONS
        detail = f"{version['version']} by {self.path}"
        return Description(model=one["id"], context_length=int(one["max_model_len"]), detail=detail)

    def tokenize(self, http: httpx2.Client, model: str, text: str) -> list[int]:
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        ids: list[int] = posted(http, "/tokenize", body)["tokens"]
        return ids

    def detokenize(self, http: httpx2.Client, model: str, ids: list[int]) -> str:
        return str(posted(http, "/detokenize", {"model": model, "tokens": ids})["prompt"])

    def body(self, job: GenerationJob, asked: Asked) -> dict[str, Any]:
        params = job.sampling
        sampling: dict[str, Any] = {
            "max_tokens": job.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "min_p": params.min_p,
            "seed": seed(job, SEED_BITS),
            "frequency_penalty": params.frequency_penalty,
            "presence_penalty": params.presence_penalty,
            "repetition_penalty": params.repetition_penalty,
            "logit_bias": {str(token): bias for token, bias in params.logit_bias.items()} or None,
            "min_tokens": min(params.min_tokens, job.max_tokens),
            # The model's own are among the job's, where they are to end it.
            "ignore_eos": True,
            "stop_token_ids": sorted(job.stop_token_ids),
            "logprobs": job.top_logprobs,
            "n": job.n,
            "skip_special_tokens": False,
            "structured_outputs": None if job.grammar is None else {"grammar": job.grammar.lark},
        }
        sampling = {name: value for name, value in sampling.items() if value is not None}
        body: dict[str, Any] = {"model": asked.model, "stream": asked.stream, "cache_salt": asked.salt}
        if asked.stream:
            body["stream_options"] = {"include_usage": True}
        if asked.priority is not None:
            body["priority"] = asked.priority
        if self.path == TOKENS:
            return body | {"token_ids": job.prompt, "sampling_params": sampling}
        ids = {"return_token_ids": True, "return_tokens_as_token_ids": True, "add_special_tokens": False}
        return body | sampling | ids | {"prompt": job.prompt}

    def ids(self, reply: Any) -> list[int]:
        ids: list[int] = reply["choices"][0]["token_ids"]
        return ids

    async def generate(self, engine: Connection, job: GenerationJob, asked: Asked) -> AsyncGenerator[TokenBatch, None]:
        last: list[TokenBatch] = []
        async with aclosing(engine.events(self.path, self.body(job, asked))) as events:
            async for data in events:
                if not data:
                    yield TokenBatch()
                    continue
                event = read(_decode, data)
                for choice in event.choices:
                    batch = _batch(choice, job)
                    if batch.finish_reason is None:
                        yield batch
                    else:
                        last.append(batch)
                if event.usage is not None and len(last) == job.n:
                    # It comes behind the last token, and nobody reads on once the last reply has ended.
                    details = event.usage.prompt_tokens_details
                    cached = (details and details.cached_tokens) or 0
                    last.sort(key=lambda batch: batch.index)
                    last[0] = msgspec.structs.replace(last[0], cached_tokens=cached)
                    for batch in last:
                        yield batch
                    return


_decode = msgspec.json.Decoder(_Event).decode


def _batch(choice: _Choice, job: GenerationJob) -> TokenBatch:
    reason: Literal["stop", "length"] | None = None
    if choice.finish_reason is not None:
        reason = "length" if choice.finish_reason == "length" else "stop"
    ids = choice.token_ids or []
    logprobs: list[TokenLogprob] = []
    if choice.logprobs is not None and job.top_logprobs is not None:
        logprobs = _logprobs(choice.logprobs, job.top_logprobs)
    return TokenBatch(token_ids=ids, finish_reason=reason, index=choice.index, logprobs=logprobs[: len(ids)])


def _logprobs(said: _Logprobs, top: int) -> list[TokenLogprob]:
    if said.content is not None:
        return [
            _logprob(one.logprob, [(other.token_id, other.logprob) for other in one.top_logprobs], top)
            for one in said.content
        ]
    tops: Sequence[Mapping[str, float] | None] = said.top_logprobs or [None] * len(said.token_logprobs)
    return [
        _logprob(one, [(int(token.removeprefix(PREFIX)), likely) for token, likely in (others or {}).items()], top)
        for one, others in zip(said.token_logprobs, tops, strict=False)
    ]


def _logprob(value: float | None, others: Sequence[tuple[int, float | None]], top: int) -> TokenLogprob:
    # The chosen token is among them, also where it is not one of the most likely.
    known = [(token, UNLIKELY if likely is None else max(UNLIKELY, likely)) for token, likely in others]
    known.sort(key=lambda one: -one[1])
    return TokenLogprob(logprob=UNLIKELY if value is None else max(UNLIKELY, value), top=known[:top])
