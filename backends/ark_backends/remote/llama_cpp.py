"""llama.cpp's server: ``/completion`` takes and gives token ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import httpx2
import msgspec

from ark.engines.chat import GenerationJob, SamplingParams, TokenBatch, TokenLogprob
from ark_backends.remote.api import UNLIKELY, Asked, Description, found, posted, read, seed
from ark_backends.remote.client import Connection, EngineDown

if TYPE_CHECKING:
    from ark_backends.kit.tokenizer import HFTokenizer

ORDER = ["penalties", "temperature", "top_k", "top_p", "min_p"]
"""Of `SamplingParams`. The server's own has filters that ARK does not have, and the temperature behind them."""

CERTAIN = 1000.0
"""Added to a token's logit to have it chosen."""

LOOKED_UP = 1000
"""Of the most likely tokens in one place, those among which a token is looked for."""

SEED_BITS = 31


class _Probability(msgspec.Struct):
    id: int
    logprob: float | None = None
    top_logprobs: list[_Probability] = []


class _Progress(msgspec.Struct):
    cache: int = 0


class _Event(msgspec.Struct):
    index: int = 0
    content: str = ""
    tokens: list[int] = []
    tokens_predicted: int = 0
    stop: bool = False
    stop_type: str = ""
    completion_probabilities: list[_Probability] = []
    prompt_progress: _Progress | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class LlamaCpp:
    """`ark_backends.remote.api.EngineAPI` of llama.cpp's server."""

    name = "llama.cpp"
    path = "/completion"
    # Its penalties count the prompt's tokens too, ignoring the end forbids it, and nothing puts it off.
    unsupported = frozenset({"frequency_penalty", "presence_penalty", "ignore_eos", "min_tokens"})

    def __init__(self, tokenizer: HFTokenizer, *, prefix_cache: bool = True) -> None:
        self._tokenizer = tokenizer
        self._prefix_cache = prefix_cache

    def describe(self, http: httpx2.Client, model: str | None) -> Description | None:
        props = found(http, "/props")
        settings = props.get("default_generation_settings") if isinstance(props, dict) else None
        if not isinstance(settings, dict) or "n_ctx" not in settings:
            return None
        return Description(
            model=model or "",
            context_length=int(settings["n_ctx"]),
            replies=int(props.get("total_slots", 1)),
            detail=f"build {props.get('build_info')}",
        )

    def tokenize(self, http: httpx2.Client, model: str, text: str) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": True}
        ids: list[int] = posted(http, "/tokenize", body)["tokens"]
        return ids

    def detokenize(self, http: httpx2.Client, model: str, ids: list[int]) -> str:
        return str(posted(http, "/detokenize", {"tokens": ids})["content"])

    def body(self, job: GenerationJob, asked: Asked) -> dict[str, Any]:
        params = job.sampling
        body: dict[str, Any] = {
            "prompt": job.prompt,
            "n_predict": job.max_tokens,
            "stream": asked.stream,
            "return_tokens": True,
            "return_progress": True,
            "cache_prompt": self._prefix_cache,
            "samplers": ORDER,
            "temperature": params.temperature,
            "top_k": params.top_k,
            "top_p": params.top_p,
            "min_p": params.min_p,
            "dynatemp_range": 0,
            "mirostat": 0,
            "repeat_penalty": params.repetition_penalty,
            # All of them: its default is 64 tokens.
            "repeat_last_n": len(job.prompt) + job.max_tokens,
            "logit_bias": [[token, bias] for token, bias in params.logit_bias.items()],
        }
        if (number := seed(job, SEED_BITS)) is not None:
            body["seed"] = number
        if job.n > 1:
            body["n_cmpl"] = job.n
        if job.grammar is not None:
            body["grammar"] = job.grammar.lark
        if job.top_logprobs is not None:
            body["n_probs"] = max(1, job.top_logprobs)
        if asked.model:
            body["model"] = asked.model
        return body

    def ids(self, reply: Any) -> list[int]:
        ids: list[int] = reply["tokens"]
        return ids

    async def generate(self, engine: Connection, job: GenerationJob, asked: Asked) -> AsyncGenerator[TokenBatch, None]:
        replies: list[list[int]] = [[] for _ in range(job.n)]
        admitted = False
        async with aclosing(engine.events(self.path, self.body(job, asked))) as events:
            async for data in events:
                if not data:
                    continue
                event = _read(data, job.n)
                if event.prompt_progress is not None:
                    # Its tokens are none of the reply.
                    if event.index == 0 and not admitted:
                        admitted = True
                        yield TokenBatch(cached_tokens=event.prompt_progress.cache)
                    continue
                known = replies[event.index]
                missing = event.tokens_predicted - len(known) - len(event.tokens)
                ids, logprobs = event.tokens, _logprobs(event.completion_probabilities, job.top_logprobs)
                if missing > 0 and ids:
                    hidden = self._hidden(event.content, ids, missing)
                    if job.top_logprobs is not None:
                        more = await self._look_up(engine, job, asked, known, hidden[: -len(ids)])
                        logprobs = [*more, *logprobs]
                    ids = hidden
                known += ids
                reason: Literal["stop", "length"] | None = None
                if event.stop:
                    reason = "length" if event.stop_type == "limit" else "stop"
                if ids or reason:
                    yield TokenBatch(token_ids=ids, finish_reason=reason, index=event.index, logprobs=logprobs)

    def _hidden(self, text: str, ids: list[int], missing: int) -> list[int]:
        """The ids of an event with those before it whose events the server left out: it sends a character's text with
        its last token, and of the others only their number."""
        usual = self._tokenizer.encode(text)
        if len(usual) == missing + len(ids) and usual[missing:] == ids:
            return usual
        last = b"".join(self._tokenizer.token_bytes(token) for token in ids)
        whole = text.encode()
        split = self._split(whole[: len(whole) - len(last)], missing) if whole.endswith(last) else None
        # Bytes that are no text came as U+FFFD: what the client sees is then what the conversation keeps.
        return usual if split is None else [*split, *ids]

    def _split(self, data: bytes, count: int) -> list[int] | None:
        """So many ids whose bytes are `data`."""
        if count == 0:
            return None if data else []
        for end in range(len(data) - count + 1, 0, -1):
            token = self._by_bytes.get(data[:end])
            rest = None if token is None else self._split(data[end:], count - 1)
            if token is not None and rest is not None:
                return [token, *rest]
        return None

    @cached_property
    def _by_bytes(self) -> dict[bytes, int]:
        return {data: token for token, data in enumerate(self._tokenizer.tokens) if token not in self._tokenizer.hidden}

    async def _look_up(
        self, engine: Connection, job: GenerationJob, asked: Asked, known: list[int], ids: Sequence[int]
    ) -> list[TokenLogprob]:
        """The log-probabilities of ids that follow the `known` ones of a reply, and are no whole character.

        The server tells none of theirs, but those of all tokens in the place of a letter: they are of its own logits,
        whatever makes it choose the letter."""
        letter = next(token for data, token in self._by_bytes.items() if data.isalpha() and data.isascii())
        sampling = SamplingParams(temperature=0.0, logit_bias={letter: CERTAIN})
        found: list[TokenLogprob] = []
        for number, token in enumerate(ids):
            prompt = [*job.prompt, *known, *ids[:number]]
            changes = {"max_tokens": 1, "n": 1, "grammar": None, "top_logprobs": LOOKED_UP}
            single = msgspec.structs.replace(job, prompt=prompt, sampling=sampling, **changes)
            body = self.body(single, msgspec.structs.replace(asked, stream=False))
            (one,) = _logprobs(_read(await engine.post(self.path, body), 1).completion_probabilities, LOOKED_UP)
            found.append(TokenLogprob(logprob=dict(one.top).get(token, UNLIKELY), top=one.top[: job.top_logprobs]))
        return found


def _read(data: bytes, replies: int) -> _Event:
    event = read(_decode, data)
    if not 0 <= event.index < replies:
        raise EngineDown("it sends a reply that nobody asked for")
    return event


def _logprobs(found: Sequence[_Probability], top: int | None) -> list[TokenLogprob]:
    if top is None:
        return []
    value: Callable[[_Probability], float] = lambda one: max(UNLIKELY, UNLIKELY if one.logprob is None else one.logprob)  # noqa: E731
    return [
        TokenLogprob(logprob=value(one), top=[(other.id, value(other)) for other in one.top_logprobs[:top]])
        for one in found
    ]
