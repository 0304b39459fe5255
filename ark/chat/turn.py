"""One turn of a conversation: an engine's reply to a request, kept by its session when it is complete."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Protocol, Self

import msgspec

from ark.chat.grammar import Answer, Reasoning, grammar
from ark.chat.output.processor import Delta, OutputProcessor
from ark.chat.output.reasoning import CLOSE, OPEN, ReasoningSplitter
from ark.chat.prompt.builder import Prompt, PromptBuilder, check_tool_results
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.parser import ToolParser
from ark.chat.tools.toolbox import Toolbox
from ark.concurrency import run_in_thread_if_large
from ark.engines.chat import ChatBackend, GenerationJob, Grammar, SamplingParams, TokenBatch, Tokenizer, TokenLogprob
from ark.engines.json_schema import Bounds
from ark.errors import APIError, BadRequest
from ark.sessions.service import SessionTurn
from ark.sessions.transcript import Continuation, Message, Transcript

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
    bounds: Bounds | None = None
    """Of what its schemas do not limit."""
    seconds: float = math.inf
    """How long the reply may take from its first token on."""


class Observer(Protocol):
    """Takes the times of a job."""

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
        prompt, reasoning, form = await prepare(request, continuation, prompts)
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
            grammar=form,
            top_logprobs=request.top_logprobs,
        )
        outputs = [_new_output(request, backend.tokenizer, reasoning, index) for index in range(request.n)]
        observer.ask()
        async with aclosing(backend.generate(job)) as batches:
            turn = Turn(request, session, prompt, job=job, batches=batches, outputs=outputs, observer=observer)
            await turn.read()
            yield turn
        if turn.complete and session.session_id is not None:
            await session.commit(turn.transcript())
    except APIError as error:
        if session.set_cookie is not None:
            error.headers["set-cookie"] = session.set_cookie
        raise


class Replies:
    """The replies to a job that the engine has admitted: an iterator over their deltas."""

    def __init__(
        self,
        job: GenerationJob,
        batches: AsyncGenerator[TokenBatch, None],
        outputs: Sequence[OutputProcessor],
        *,
        observer: Observer,
        seconds: float,
    ) -> None:
        """`outputs` are the replies so far. They may take so many `seconds` from the first token on."""
        self.job = job
        self.outputs = outputs
        self.cached_tokens = 0
        """Of the prompt, not computed again. An engine may find more of them after it has admitted the job."""
        self.cached_known = False
        """Whether the engine has told it: some do so with the end of the reply."""
        self.prompt_logprobs: list[TokenLogprob] = []
        """Of the prompt from its second token on, where the job asks for them."""
        self._batches = batches
        self._observer = observer
        self._seconds = seconds
        self._running = len(outputs)
        self._deltas: deque[Delta] = deque()
        self._deadline = math.inf

    @property
    def complete(self) -> bool:
        """Every reply has its finish reason, and every delta has been taken."""
        return not self._running and not self._deltas

    @property
    def prompt_tokens(self) -> int:
        return len(self.job.prompt)

    @property
    def completion_tokens(self) -> int:
        """Of all replies, as the next."""
        return sum(len(output.token_ids) for output in self.outputs)

    @property
    def reasoning_tokens(self) -> int:
        return sum(output.reasoning_tokens for output in self.outputs)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        while not self._deltas:
            if not self._running:
                raise StopAsyncIteration
            await self.read()
        return self._deltas.popleft()

    async def read(self) -> None:
        """Take the engine's next batch; the first one comes when it admits the job.

        Replies that take too long end as they are, with the reason ``length``, which clients know as an answer that is
        good as far as it goes. The time is looked at when tokens come: a timer for each wait would cost a quarter of
        what a token does.
        """
        batch = await anext(self._batches, None)
        if batch is None:
            raise RuntimeError("the backend ended a job without a finish reason")
        if batch.finish_reason is not None or time.monotonic() < self._deadline:
            self._take(batch)
        else:
            for output in self.outputs:
                self._take(TokenBatch(index=output.index, finish_reason="length"))

    def _take(self, batch: TokenBatch) -> None:
        self._observer.batch(batch)
        if batch.cached_tokens is not None:
            self.cached_tokens, self.cached_known = batch.cached_tokens, True
        if batch.prompt_logprobs:
            self.prompt_logprobs += batch.prompt_logprobs
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
                self.job.dropped.add(output.index)
            self._deltas.append(Delta(index=output.index, last=True))


class Turn(Replies):
    """An admitted turn of a conversation."""

    def __init__(
        self,
        request: TurnRequest,
        session: SessionTurn,
        prompt: Prompt,
        *,
        job: GenerationJob,
        batches: AsyncGenerator[TokenBatch, None],
        outputs: Sequence[OutputProcessor],
        observer: Observer,
    ) -> None:
        super().__init__(job, batches, outputs, observer=observer, seconds=request.seconds)
        self.request = request
        self.session = session
        self.prompt = prompt

    @property
    def custom_tools(self) -> frozenset[str]:
        """Names of the tools whose input is text."""
        return frozenset() if self.request.tools is None else self.request.tools.custom_names

    @property
    def legacy(self) -> bool:
        """The request says ``functions`` where a newer one says ``tools``, and is answered so."""
        return self.request.tools is not None and self.request.tools.legacy

    @property
    def how(self) -> str:
        """What the request did to its session: created, continued, rewound, rebuilt or stateless."""
        again = self.prompt.retained - self.cached_tokens if self.cached_known else 0
        return "rebuilt" if self.session.session_id is not None and again > REREAD else self.prompt.continuation.how

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What the response says of its session."""
        found = f"; {self.session.found}" if self.session.found in ("name", "content") else ""
        session = ("x-ark-session", f"{self.session.session_id or 'none'}; {self.how}{found}")
        return [session, ("x-ark-cached-tokens", str(self.cached_tokens))] if self.cached_known else [session]

    def transcript(self) -> Transcript:
        """The conversation with the first reply."""
        output = self.outputs[0]
        message = output.message(legacy=self.legacy)
        return self.prompt.finish(output.token_ids, message, stop_ids=self.job.stop_token_ids, kept=output.kept)


async def prepare(
    request: TurnRequest, continuation: Continuation, prompts: PromptBuilder
) -> tuple[Prompt, Reasoning, Grammar | None]:
    """The prompt of a turn, whether its reply begins with reasoning, and the reply's grammar. Raises BadRequest."""

    def build() -> tuple[Prompt, Reasoning, Grammar | None]:
        check_tool_results(continuation.messages, len(request.messages))
        tools = None if request.tools is None else [tool.for_template() for tool in request.tools.tools]
        try:
            prompt = prompts.build(continuation, tools=tools, template_kwargs=request.template_kwargs)
        except RecursionError as error:
            raise BadRequest("The request is nested too deeply for the model's chat template.") from error
        reasoning = _reasoning(prompt) if request.reasoning else "none"
        if request.answer is None and request.tools is None:
            return prompt, reasoning, None
        try:
            form = grammar(
                request.answer,
                request.tools,
                request.tool_format,
                reasoning=reasoning,
                bounds=request.bounds,
            )
            return prompt, reasoning, form
        except RecursionError as error:
            raise BadRequest("A schema is nested too deeply.", code="invalid_schema") from error

    size = sum(message.size for message in continuation.messages)
    return await run_in_thread_if_large(max(request.size, size), build)


def _reasoning(prompt: Prompt) -> Reasoning:
    """Whether the reply begins with reasoning, as the end of the prompt shows."""
    ending = prompt.ending.rstrip()
    if ending.endswith(CLOSE):
        # A closed tag is how templates say that there is to be none.
        return "none"
    return "opened" if ending.endswith(OPEN) else "possible"


def _new_output(request: TurnRequest, tokenizer: Tokenizer, reasoning: Reasoning, index: int) -> OutputProcessor:
    tools, parser = request.tools, None
    if tools is not None and tools.callable and request.tool_format is not None and request.read_calls:
        schemas = {tool.name: tool.parameters or {} for tool in tools.callable}
        raw = [tool.name for tool in tools.callable if tool.lark is not None]
        parser = ToolParser(request.tool_format, schemas, distinct=tools.required, raw=raw)
    return OutputProcessor(
        tokenizer.stream(),
        index=index,
        splitter=ReasoningSplitter(opened=reasoning == "opened") if request.reasoning else None,
        stops=request.stops,
        min_tokens=request.sampling.min_tokens,
        calls=parser,
        token_bytes=None if request.top_logprobs is None else tokenizer.token_bytes,
    )
