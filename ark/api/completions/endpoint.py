"""POST /completions: bare text, without a template and without a session."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import msgspec

from ark.api.chat.parameters import read_sampling, read_stops
from ark.api.chat.render import error_event
from ark.api.completions import render
from ark.api.completions.render import ChoiceText, Token, tokens_of
from ark.api.completions.schema import CompletionRequest, TextChoice
from ark.api.inputs import read_inputs
from ark.api.request import Request, decode_body, ignored_header
from ark.chat.output.processor import OutputProcessor, with_text
from ark.chat.prompt.builder import PromptBuilder
from ark.chat.turn import Replies
from ark.concurrency import run_in_thread_if_large
from ark.engines.chat import ChatBackend, GenerationJob, TokenBatch
from ark.errors import APIError, ContextLengthExceeded, UnsupportedParameter, invalid_value
from ark.http.response import EventStream, Response
from ark.http.sse import DONE, json_event
from ark.models.served import ServedChat
from ark.ops.requests import JobRecord
from ark.services import Services

_decoder = msgspec.json.Decoder(CompletionRequest)

MAX_TOKENS = 16
"""What a request that does not say gets, as at OpenAI."""
AT_ONCE = 16
"""Prompts of one request that run at the same time. More would fill the queue for all others."""


async def create(request: Request, services: Services) -> Response | EventStream:
    """Text that continues one prompt or several, whole or as a stream."""
    limits = services.config.limits
    body = await decode_body(_decoder, request.body, limits)
    served = services.registry.find_for(ServedChat, body.model, request.key)
    work = request.record.begin("text_completion", served.name, body, meters=services.metrics.requests.models)
    backend = await served.ready()
    ignored = served.check(body)
    if ignored:
        body = msgspec.structs.replace(body, **dict.fromkeys(ignored))
    _check(body, backend)
    jobs = await run_in_thread_if_large(len(request.body), lambda: _read_jobs(body, request, served, backend))
    runner = CompletionRunner(body, jobs, request, backend, work, seconds=limits.generation_seconds)
    headers = ignored_header(ignored)
    if not body.stream:
        return Response(body=await runner.run(), headers=headers)
    return EventStream(
        events=runner.events(), headers=lambda: headers, error_event=lambda error: error_event(error, named=False)
    )


class PromptObserver:
    """Takes the times of one prompt's replies, which are not those of another's."""

    def __init__(self, work: JobRecord, first: int) -> None:
        """`first` is the number of the prompt's first reply among all of the request's."""
        self.ask = work.ask
        self._work = work
        self._first = first

    def batch(self, batch: TokenBatch) -> None:
        self._work.batch(msgspec.structs.replace(batch, index=self._first + batch.index) if self._first else batch)


class CompletionRunner:
    """Runs the jobs of a request, one for each of its prompts."""

    def __init__(
        self,
        body: CompletionRequest,
        jobs: Sequence[GenerationJob],
        request: Request,
        backend: ChatBackend,
        work: JobRecord,
        *,
        seconds: float,
    ) -> None:
        self.body = body
        self.jobs = jobs
        self.head = render.new_head(body.model)
        self._request = request
        self._backend = backend
        self._work = work
        self._seconds = seconds
        self._replies: list[Replies] = []
        work.response_id = self.head.id

    async def run(self) -> bytes:
        """The whole completion. Raises the first prompt's error that comes."""
        choices: dict[int, list[TextChoice]] = {}
        errors: list[APIError] = []
        numbers = iter(range(len(self.jobs)))

        async def run_some() -> None:
            try:
                for number in numbers:
                    async with self._begin(number) as replies:
                        async for _ in replies:
                            pass
                    choices[number] = self._choices(number, replies)
            except APIError as error:
                errors.append(error)
                tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(min(AT_ONCE, len(self.jobs))):
                    tasks.start_soon(run_some)
            if errors:
                raise errors[0]
        finally:
            self._note()
        found = [choice for number in range(len(self.jobs)) for choice in choices[number]]
        return render.completion(self.head, found, render.usage(self._replies, self._work.completion_tokens))

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The completion as chunks, one prompt after another."""
        include_usage = self.body.stream_options is not None and self.body.stream_options.include_usage
        used = None if include_usage else msgspec.UNSET
        try:
            for number in range(len(self.jobs)):
                async with self._begin(number) as replies, aclosing(self._chunks(number, replies)) as chunks:
                    async for choice in chunks:
                        yield json_event(render.completion(self.head, [choice], used))
        finally:
            self._note()
        if include_usage:
            total = render.usage(self._replies, self._work.completion_tokens)
            yield json_event(render.completion(self.head, [], total))
        yield DONE

    @asynccontextmanager
    async def _begin(self, number: int) -> AsyncGenerator[Replies, None]:
        """The replies to a prompt, once the engine has admitted it."""
        job, tokenizer = self.jobs[number], self._backend.tokenizer
        token_bytes = None if job.top_logprobs is None else tokenizer.token_bytes
        outputs = [
            OutputProcessor(
                tokenizer.stream(),
                index=index,
                stops=read_stops(self.body),
                min_tokens=job.sampling.min_tokens,
                token_bytes=token_bytes,
            )
            for index in range(job.n)
        ]
        self._work.ask()
        async with aclosing(self._backend.generate(job)) as batches:
            observer = PromptObserver(self._work, number * job.n)
            replies = Replies(job, batches, outputs, observer=observer, seconds=self._seconds)
            self._replies.append(replies)
            await replies.read()
            yield replies

    def _choices(self, number: int, replies: Replies) -> list[TextChoice]:
        body, wanted = self.body, self.body.n or 1
        outputs = replies.outputs
        if len(outputs) > wanted:
            outputs = sorted(outputs, key=render.mean_logprob, reverse=True)[:wanted]
        choices = []
        for place, output in enumerate(outputs):
            text, tokens = self._echo(number, replies)
            if body.max_tokens != 0:
                text, tokens = text + output.content, tokens + tokens_of(output.logprobs)
            choice = ChoiceText(number * wanted + place, logprobs=body.logprobs is not None)
            choices.append(choice.add(text, tokens, "length" if body.max_tokens == 0 else output.finish_reason))
        return choices

    async def _chunks(self, number: int, replies: Replies) -> AsyncGenerator[TextChoice, None]:
        logprobs = self.body.logprobs is not None
        count = len(replies.outputs)
        texts = [ChoiceText(number * count + index, logprobs=logprobs) for index in range(count)]
        if self.body.echo:
            # How likely the prompt is, is known with the first token.
            while not any(output.token_ids for output in replies.outputs) and not replies.complete:
                await replies.read()
            for text in texts:
                yield text.add(*self._echo(number, replies))
        async for delta in replies:
            if delta.content and self.body.max_tokens != 0:
                yield texts[delta.index].add(delta.content, tokens_of(delta.logprobs))
            elif delta.last:
                yield texts[delta.index].add("", (), replies.outputs[delta.index].finish_reason)
                texts[delta.index].ended = True
        for text, output in zip(texts, replies.outputs, strict=True):
            if not text.ended:
                yield text.add("", (), "length" if self.body.max_tokens == 0 else output.finish_reason)

    def _echo(self, number: int, replies: Replies) -> tuple[str, list[Token]]:
        """The text of a prompt that is sent back, and its tokens."""
        if not self.body.echo:
            return "", []
        tokenizer, ids = self._backend.tokenizer, replies.job.prompt
        prompt = self.body.prompt
        sent = prompt if isinstance(prompt, str) else prompt[number]
        text = sent if isinstance(sent, str) else tokenizer.decode(ids)
        if self.body.logprobs is None:
            return text, []
        found = zip(ids[1:], replies.prompt_logprobs, strict=True)
        first: Token = (tokenizer.token_bytes(ids[0]), None)
        tokens = [first, *tokens_of([with_text(token, one, tokenizer.token_bytes) for token, one in found])]
        # What was put before a text is none of it.
        opening = (
            len(tokenizer.opening_ids) if isinstance(sent, str) and self.body.add_special_tokens is not False else 0
        )
        return text, [*((b"", one) for _, one in tokens[:opening]), *tokens[opening:]]

    def _note(self) -> None:
        work, replies = self._work, self._replies
        work.prompt_tokens = sum(one.prompt_tokens for one in replies)
        work.cached_tokens = sum(one.cached_tokens for one in replies)
        if self.body.max_tokens != 0:
            work.completion_tokens = sum(one.completion_tokens for one in replies)
        work.finish_reasons = [output.finish_reason for one in replies for output in one.outputs]
        self._request.spend(work.prompt_tokens + work.completion_tokens)
        work.logged = {
            "prompts": len(self.jobs),
            "prompt_tokens": work.prompt_tokens,
            "cached_tokens": work.cached_tokens,
            "completion_tokens": work.completion_tokens,
        }


def _check(body: CompletionRequest, backend: ChatBackend) -> None:
    """What the types cannot say. Raises BadRequest."""
    if body.stream_options is not None and not body.stream:
        raise invalid_value("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    if body.max_tokens == 0 and not body.echo:
        raise invalid_value("max_tokens", "0 is for the prompt alone: it needs 'echo'.")
    if body.best_of is not None:
        if body.best_of < (body.n or 1):
            raise invalid_value("best_of", f"{body.best_of} is less than the {body.n} replies of 'n'.")
        if body.stream and body.best_of > (body.n or 1):
            raise invalid_value("best_of", "In a stream it cannot be chosen from more than 'n' replies.")
    if body.suffix is not None and (body.echo or not isinstance(body.prompt, str)):
        raise invalid_value("suffix", "It stands behind one prompt, which is a text and has no 'echo'.")
    choosing = body.best_of is not None and body.best_of > (body.n or 1)
    lacking = "logprobs" if body.logprobs is not None else "best_of" if choosing else None
    if lacking is not None and "logprobs" not in backend.capabilities.parameters:
        raise UnsupportedParameter(f"The model '{body.model}' does not support '{lacking}'.", param=lacking)
    if body.echo and body.logprobs is not None and not backend.capabilities.prompt_logprobs:
        reason = f"The model '{body.model}' does not support 'logprobs' with 'echo'."
        raise UnsupportedParameter(reason, param="echo")


def _read_prompts(body: CompletionRequest, builder: PromptBuilder) -> dict[str, Sequence[int]]:
    """Every prompt as token ids, by its place in the request. Raises BadRequest."""
    prompts = read_inputs(body.prompt, "prompt")
    opening = body.add_special_tokens is not False
    return {
        prompts.place(at): builder.encode(item, body.suffix, opening=opening) if isinstance(item, str) else item
        for at, item in enumerate(prompts.items)
    }


def _read_jobs(
    body: CompletionRequest, request: Request, served: ServedChat, backend: ChatBackend
) -> list[GenerationJob]:
    """A job for each prompt. Raises BadRequest."""
    tokenizer, context_length = backend.tokenizer, backend.context_length
    count = max(body.n or 1, body.best_of or 1)
    ends = frozenset() if body.ignore_eos else tokenizer.stop_token_ids
    common: dict[str, Any] = {
        "request_id": request.id,
        "sampling": read_sampling(body, served.default_sampling, tokenizer.vocab_size),
        "stop_token_ids": ends.union(body.stop_token_ids or ()),
        "owner": request.owner,
        "n": count,
        "top_logprobs": (body.logprobs or 0) if body.logprobs is not None or count > (body.n or 1) else None,
        "prompt_logprobs": bool(body.echo) and body.logprobs is not None,
    }
    wanted = MAX_TOKENS if body.max_tokens is None else max(1, body.max_tokens)
    jobs = []
    for place, ids in _read_prompts(body, served.prompts).items():
        room = context_length - len(ids)
        if not ids:
            raise invalid_value(place, "There is nothing to continue, and the model has no token for a beginning.")
        if room < 1:
            reason = f"It is {len(ids)} tokens; the model's context is {context_length}, and a reply needs one."
            raise ContextLengthExceeded(f"Invalid '{place}': {reason}", param=place)
        if max(ids) >= tokenizer.vocab_size:
            raise invalid_value(place, f"The model has no token {max(ids)}: its ids end at {tokenizer.vocab_size - 1}.")
        jobs.append(GenerationJob(prompt=ids, max_tokens=min(room, wanted), **common))
    return jobs
