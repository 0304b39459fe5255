"""One turn of a conversation: an engine's reply to a request, kept by its session when it is complete."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol, Self

import anyio
import msgspec

from ark.chat.grammar import Answer, Reasoning, grammar
from ark.chat.output.processor import Delta, OutputProcessor
from ark.chat.output.reasoning import CLOSE, OPEN, ReasoningSplitter
from ark.chat.prompt.builder import Prompt, PromptBuilder, check_tool_results
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.parser import ToolParser
from ark.chat.tools.toolbox import Toolbox
from ark.concurrency import run_in_thread_if_large
from ark.engines.chat import ChatBackend, GenerationJob, Grammar, SamplingParams, TokenBatch, Tokenizer
from ark.errors import APIError, BadRequest
from ark.sessions.service import Turn as SessionTurn
from ark.sessions.transcript import Continuation, Message

REREAD = 64
"""A turn is called rebuilt when more tokens than this of its transcript had to be computed again. The last sampled
token never has state, and a stop string costs a few more."""


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn needs of a request that has been checked."""

    request_id: str
    model: str
    """The name that the request asks for."""
    owner: str
    messages: tuple[Message, ...]
    max_tokens: int | None
    """None for as many as the context has room for."""
    sampling: SamplingParams
    stop_token_ids: frozenset[int]
    stops: Sequence[str]
    reasoning: bool
    """The model's replies may begin with reasoning."""
    n: int = 1
    """Replies to the messages; the first one is what the session keeps."""
    answer: Answer | None = None
    """The form of the content; None for text."""
    tools: Toolbox | None = None
    tool_format: ToolFormat | None = None
    """How the model writes calls; there with `tools`."""
    read_calls: bool = True
    """Calls are taken out of the content; otherwise it has them as the model wrote them."""
    template_kwargs: Mapping[str, Any] = {}
    top_logprobs: int | None = None
    """As in `GenerationJob`."""
    size: int = 0
    """Bytes of the request: how long it may take to work on it."""
    seconds: float = math.inf
    """How long the reply may take from its first token on."""


class TokenCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the replies to one prompt cost together."""

    prompt: int
    cached: int
    """Of the prompt, not computed again."""
    completion: int
    reasoning: int
    """Of the completion."""


class Observer(Protocol):
    """Takes the times of a turn."""

    def ask(self) -> None:
        """The engine gets the job now."""

    def batch(self, batch: TokenBatch) -> None:
        """A batch has come."""


@asynccontextmanager
async def begin_turn(
    request: TurnRequest, session: SessionTurn, *, backend: ChatBackend, prompts: PromptBuilder, observer: Observer
) -> AsyncGenerator[Turn, None]:
    """A turn that the engine has admitted, to be iterated over for the reply's deltas.

    When the block is left with the reply complete, the session keeps the turn, whole. Left earlier, or with an error,
    the session stays as it was, and the engine stops within one step. An APIError, from the engine or the block, gets
    the session's cookie.
    """
    try:
        continuation = session.resume(request.messages, prompts.model)
        prompt = await _build_prompt(request, continuation, prompts)
        reasoning = _reasoning(request, prompt)
        room = backend.context_length - len(prompt.ids)
        job = GenerationJob(
            request_id=request.request_id,
            prompt=prompt.ids,
            # A request may ask for more than there is room for: it gets what there is, and the reason "length".
            max_tokens=min(room, request.max_tokens or room),
            sampling=request.sampling,
            stop_token_ids=request.stop_token_ids,
            owner=request.owner,
            session=session.key,
            n=request.n,
            grammar=await _build_grammar(request, reasoning),
            top_logprobs=request.top_logprobs,
        )
        outputs = [_new_output(request, backend.tokenizer, reasoning, index) for index in range(request.n)]
        observer.ask()
        async with aclosing(backend.generate(job)) as batches:
            turn = Turn(request, session, prompt, job, outputs=outputs, batches=batches, observer=observer)
            await turn.admit()
            yield turn
        if turn.complete:
            await turn.commit()
    except APIError as error:
        if session.set_cookie is not None:
            error.headers["set-cookie"] = session.set_cookie
        raise


class Turn:
    """An admitted turn: an iterator over the deltas of its reply, or of its `n` replies."""

    def __init__(
        self,
        request: TurnRequest,
        session: SessionTurn,
        prompt: Prompt,
        job: GenerationJob,
        *,
        outputs: Sequence[OutputProcessor],
        batches: AsyncGenerator[TokenBatch, None],
        observer: Observer,
    ) -> None:
        self._seconds = request.seconds
        self._session = session
        self._prompt = prompt
        self._job = job
        self._batches = batches
        self._observer = observer
        self._running = len(outputs)
        self._deltas: deque[Delta] = deque()
        self._deadline = math.inf
        self._cached_tokens = 0
        self.outputs = outputs
        """The replies so far."""
        self.legacy = request.tools is not None and request.tools.legacy
        """The request says ``functions`` where a newer one says ``tools``, and is answered so."""

    @property
    def complete(self) -> bool:
        """Every reply has its finish reason, and every delta has been taken."""
        return not self._running and not self._deltas

    @property
    def how(self) -> str:
        """What the request did to its session: created, continued, rewound, rebuilt or stateless."""
        rebuilt = self._session.session_id is not None and self._prompt.retained - self._cached_tokens > REREAD
        return "rebuilt" if rebuilt else self._prompt.how

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the reply says of its session. An engine may find more cached tokens after it has admitted the job: too
        late for a stream, and told by a whole reply."""
        return [
            ("x-ark-session", f"{self._session.session_id or 'none'}; {self.how}"),
            ("x-ark-cached-tokens", str(self._cached_tokens)),
        ]

    @property
    def counts(self) -> TokenCounts:
        return TokenCounts(
            prompt=len(self._prompt.ids),
            cached=self._cached_tokens,
            completion=sum(len(output.token_ids) for output in self.outputs),
            reasoning=sum(output.reasoning_tokens for output in self.outputs),
        )

    async def admit(self) -> None:
        """Wait until the engine takes the job."""
        await self._read()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._deltas:
            if not self._running:
                raise StopAsyncIteration
            await self._read()
        return self._deltas.popleft()

    async def commit(self) -> None:
        """Have the session keep the turn."""
        if self._session.session_id is None:
            return
        output = self.outputs[0]
        transcript = self._prompt.finish(
            output.token_ids,
            output.message(legacy=self.legacy),
            stop_ids=self._job.stop_token_ids,
            kept=output.kept,
        )
        await self._session.commit(transcript)

    async def _read(self) -> None:
        """Take the engine's next batch. Replies that take too long end as they are, with the reason ``length``, which
        clients know as an answer that is good as far as it goes."""
        batch = await self._next_batch()
        if batch is not None:
            self._take(batch)
            return
        for output in self.outputs:
            self._take(TokenBatch(index=output.index, finish_reason="length"))

    async def _next_batch(self) -> TokenBatch | None:
        """None when the time is over."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            # The scope does not stop an engine that never waits.
            return None
        batch: TokenBatch | None = None
        # Around the wait only: around what the consumer does the scope would cancel that.
        with anyio.move_on_after(left) as scope:
            batch = await anext(self._batches, None)
        if batch is None and not scope.cancelled_caught:
            raise RuntimeError("the backend ended a job without a finish reason")
        return batch

    def _take(self, batch: TokenBatch) -> None:
        self._observer.batch(batch)
        if batch.cached_tokens is not None:
            self._cached_tokens = batch.cached_tokens
        output = self.outputs[batch.index]
        ended = output.finish_reason is not None
        if ended:
            # By a stop string, and the engine goes on for the others.
            return
        self._deltas += output.push(batch)
        if batch.token_ids and self._deadline == math.inf:
            self._deadline = time.monotonic() + self._seconds
        if output.finish_reason is None:
            return
        self._running -= 1
        if self._running:
            if batch.finish_reason is None:
                self._job.dropped.add(output.index)
            self._deltas.append(Delta(index=output.index, last=True))


async def _build_prompt(request: TurnRequest, continuation: Continuation, prompts: PromptBuilder) -> Prompt:
    def build() -> Prompt:
        check_tool_results(continuation.messages, len(request.messages))
        tools = None if request.tools is None else [tool.for_template() for tool in request.tools.tools]
        try:
            return prompts.build(continuation, tools=tools, template_kwargs=request.template_kwargs)
        except RecursionError as error:
            raise BadRequest("The request is nested too deeply for the model's chat template.") from error

    size = sum(message.size for message in continuation.messages)
    return await run_in_thread_if_large(max(request.size, size), build)


async def _build_grammar(request: TurnRequest, reasoning: Reasoning) -> Grammar | None:
    def build() -> Grammar | None:
        try:
            return grammar(request.answer, request.tools, request.tool_format, reasoning=reasoning)
        except RecursionError as error:
            raise BadRequest("A schema is nested too deeply.", code="invalid_schema") from error

    if request.answer is None and request.tools is None:
        return None
    return await run_in_thread_if_large(request.size, build)


def _reasoning(request: TurnRequest, prompt: Prompt) -> Reasoning:
    """Whether the reply begins with reasoning, as the end of the prompt shows."""
    ending = prompt.ending.rstrip()
    if not request.reasoning or ending.endswith(CLOSE):
        # A closed tag is how templates say that there is to be none.
        return "none"
    return "opened" if ending.endswith(OPEN) else "possible"


def _new_output(request: TurnRequest, tokenizer: Tokenizer, reasoning: Reasoning, index: int) -> OutputProcessor:
    tools, parser = request.tools, None
    if tools is not None and tools.callable and request.tool_format is not None and request.read_calls:
        parser = ToolParser(request.tool_format, {tool.name: tool.parameters or {} for tool in tools.callable})
    return OutputProcessor(
        tokenizer.stream(),
        index=index,
        splitter=ReasoningSplitter(opened=reasoning == "opened") if request.reasoning else None,
        stops=request.stops,
        min_tokens=request.sampling.min_tokens,
        calls=parser,
        token_bytes=None if request.top_logprobs is None else tokenizer.token_bytes,
    )
