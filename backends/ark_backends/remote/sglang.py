"""SGLang: ``/generate`` takes and gives token ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

import httpx2
import msgspec

from ark.engines.chat import GenerationJob, TokenBatch, TokenLogprob
from ark_backends.remote.api import UNLIKELY, Asked, Description, found, listed, posted, read
from ark_backends.remote.client import Connection, EngineBusy, EngineDown


class _Meta(msgspec.Struct):
    completion_tokens: int = 0
    cached_tokens: int = 0
    finish_reason: dict[str, Any] | None = None
    output_token_logprobs: list[tuple[float | None, int, str | None]] = []
    output_top_logprobs: list[list[tuple[float | None, int, str | None]] | None] = []


class _Event(msgspec.Struct):
    index: int = 0
    output_ids: list[int] = []
    meta_info: _Meta | None = None
    error: Any = None


class Sglang:
    """`ark_backends.remote.api.EngineAPI` of SGLang."""

    name = "sglang"
    path = "/generate"
    # Seeds are honoured only by a server that is started to be deterministic, which it does not tell.
    unsupported = frozenset({"seed"})

    def describe(self, http: httpx2.Client, model: str | None) -> Description | None:
        info, models = found(http, "/get_model_info"), found(http, "/v1/models")
        if not isinstance(info, dict) or "model_path" not in info or not isinstance(models, dict):
            return None
        one = listed(models, model)
        return Description(model=one["id"], context_length=int(one["max_model_len"]), detail=str(info["model_path"]))

    def tokenize(self, http: httpx2.Client, model: str, text: str) -> list[int]:
        body = {"model": model, "prompt": text, "add_special_tokens": False}
        ids: list[int] = posted(http, "/tokenize", body)["tokens"]
        return ids

    def detokenize(self, http: httpx2.Client, model: str, ids: list[int]) -> str:
        return str(posted(http, "/detokenize", {"model": model, "tokens": ids, "skip_special_tokens": False})["text"])

    def body(self, job: GenerationJob, asked: Asked) -> dict[str, Any]:
        params = job.sampling
        sampling: dict[str, Any] = {
            "max_new_tokens": job.max_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k or -1,
            "min_p": params.min_p,
            "frequency_penalty": params.frequency_penalty,
            "presence_penalty": params.presence_penalty,
            "repetition_penalty": params.repetition_penalty,
            "min_new_tokens": min(params.min_tokens, job.max_tokens),
            # The model's own are among the job's, where they are to end it.
            "ignore_eos": True,
            "stop_token_ids": sorted(job.stop_token_ids),
            "n": job.n,
            "skip_special_tokens": False,
            "no_stop_trim": True,
        }
        if params.logit_bias:
            sampling["logit_bias"] = {str(token): bias for token, bias in params.logit_bias.items()}
        if job.grammar is not None:
            sampling["ebnf"] = job.grammar.lark
        body = {"input_ids": job.prompt, "sampling_params": sampling, "stream": asked.stream, "extra_key": asked.salt}
        if job.top_logprobs is not None:
            body |= {"return_logprob": True, "logprob_start_len": -1, "top_logprobs_num": job.top_logprobs}
        if asked.priority is not None:
            # Its own are the other way round.
            body["priority"] = -asked.priority
        return body

    def ids(self, reply: Any) -> list[int]:
        ids: list[int] = reply["output_ids"]
        return ids

    async def generate(self, engine: Connection, job: GenerationJob, asked: Asked) -> AsyncGenerator[TokenBatch, None]:
        seen = [0] * job.n
        begun = False
        async with aclosing(engine.events(self.path, self.body(job, asked))) as events:
            async for data in events:
                if not data:
                    continue
                event = read(_decode, data)
                meta = event.meta_info
                if meta is None or not 0 <= event.index < job.n:
                    raise EngineDown("it sends an event that is none of this job's")
                if not begun:
                    begun = True
                    yield TokenBatch(cached_tokens=meta.cached_tokens)
                # It sends all tokens so far, or with --incremental-streaming-output the new ones.
                new = meta.completion_tokens - seen[event.index]
                seen[event.index] = meta.completion_tokens
                if reason := _reason(meta.finish_reason):
                    yield _batch(event, meta, new, job, reason)
                elif new:
                    yield _batch(event, meta, new, job, None)


_decode = msgspec.json.Decoder(_Event).decode


def _batch(
    event: _Event, meta: _Meta, new: int, job: GenerationJob, reason: Literal["stop", "length"] | None
) -> TokenBatch:
    start = len(event.output_ids) - new
    logprobs: list[TokenLogprob] = []
    if job.top_logprobs is not None and new:
        chosen = meta.output_token_logprobs[-new:]
        tops = meta.output_top_logprobs[-new:] or [None] * new
        logprobs = [
            TokenLogprob(
                logprob=_value(value), top=[(token, _value(one)) for one, token, _ in (top or [])[: job.top_logprobs]]
            )
            for (value, _, _), top in zip(chosen, tops, strict=True)
        ]
    return TokenBatch(
        token_ids=event.output_ids[start:] if new else [], finish_reason=reason, index=event.index, logprobs=logprobs
    )


def _value(logprob: float | None) -> float:
    return UNLIKELY if logprob is None else max(UNLIKELY, logprob)


def _reason(said: dict[str, Any] | None) -> Literal["stop", "length"] | None:
    if said is None:
        return None
    if said.get("type") == "abort":
        message = str(said.get("message"))[:500]
        raise EngineBusy(message) if said.get("status_code") == 503 else EngineDown(message)
    return "length" if said.get("type") == "length" else "stop"
