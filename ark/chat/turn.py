"""One turn of a chat: from a checked request to the pieces of its reply, kept by its session when it is whole."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from ark.chat.grammar import Answer, Reasoning, grammar
from ark.chat.output.deadline import within
from ark.chat.output.logprobs import Likelihoods
from ark.chat.output.processor import Fold, Piece, fold_all
from ark.chat.output.reasoning import CLOSE, OPEN, ReasoningSplitter
from ark.chat.prompt.builder import Prompt, PromptBuilder
from ark.chat.prompt.messages import check_results, reply_message
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.parser import ToolParser
from ark.chat.tools.request import Toolbox
from ark.concurrency import run_in_thread_if_large
from ark.engines.chat import ChatBackend, GenerationJob, Grammar, SamplingParams
from ark.errors import APIError, BadRequest
from ark.ops.record import Work
from ark.sessions.service import Sessions, Turn
from ark.sessions.transcript import Continuation, Message

REREAD = 64
"""A turn is called rebuilt when more tokens than this of its transcript had to be computed again. The last sampled
token never has state, and a stop string costs a few more."""


class TurnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn needs of a request that has been checked."""

    request_id: str
    owner: str
    cookie: str | None
    """The session that the request's cookie names."""
    stateful: bool | str | None
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


class ChatTurn:
    """A turn while it runs. `headers` are whole and `fold` is there from the first piece on."""

    def __init__(
        self, request: TurnRequest, *, sessions: Sessions, backend: ChatBackend, prompts: PromptBuilder, work: Work
    ) -> None:
        self._request = request
        self._sessions = sessions
        self._backend = backend
        self._prompts = prompts
        self.work = work
        self.headers: list[tuple[str, str]] = []
        self.how = ""
        """What the request did to its session: created, continued, rewound, rebuilt or stateless."""
        self.session_id: str | None = None
        self.folds: list[Fold] = []
        """The replies so far."""

    @property
    def fold(self) -> Fold:
        """The first reply so far."""
        if not self.folds:
            raise RuntimeError("the turn has not begun")
        return self.folds[0]

    @property
    def begun(self) -> bool:
        return bool(self.folds)

    @property
    def legacy(self) -> bool:
        """The request says ``functions`` where a newer one says ``tools``, and is answered so."""
        return self._request.tools is not None and self._request.tools.legacy

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The reply's pieces; the first one, empty, when the engine takes the job. The turn is committed before the
        generator ends, and only then: closed earlier, or failing, it leaves the session as it was."""
        request = self._request
        async with await self._sessions.begin(request.owner, cookie=request.cookie, stateful=request.stateful) as turn:
            self.session_id = turn.session_id
            cookie = [] if turn.set_cookie is None else [("set-cookie", turn.set_cookie)]
            # Before anything that waits: a comment may start the reply while the job is queued.
            self.headers += cookie
            try:
                continuation = turn.resume(request.messages, self._prompts.model)
                check_results(continuation.messages, len(request.messages))
                prompt = await self._build(continuation)
                job = await self._job(prompt, turn)
                self.folds = [self._new_fold(prompt, index) for index in range(request.n)]
                self.work.ask()
                batches = within(self._backend.generate(job), request.seconds, n=request.n)
                async with aclosing(fold_all(self.folds, batches, job.dropped, self.work.batch)) as pieces:
                    place = len(self.headers)
                    told: int | None = None
                    async for piece in pieces:
                        if told != self.fold.cached_tokens:
                            # What the engine finds later is too late for the head of a stream, and not for a reply's.
                            told = self.fold.cached_tokens
                            self.headers[place:] = self._describe(prompt, turn)
                        yield piece
            except APIError as error:
                error.headers.update(cookie)
                raise
            finally:
                self._sessions.rebuilds += self.how == "rebuilt"
            await self._commit(prompt, turn, job)

    async def _build(self, continuation: Continuation) -> Prompt:
        request = self._request

        def build() -> Prompt:
            tools = None if request.tools is None else request.tools.for_template()
            try:
                return self._prompts.build(continuation, tools=tools, template_kwargs=request.template_kwargs)
            except RecursionError as error:
                raise BadRequest("The request is nested too deeply for the model's chat template.") from error

        return await run_in_thread_if_large(
            max(request.size, sum(message.size for message in continuation.messages)), build
        )

    async def _grammar(self, prompt: Prompt) -> Grammar | None:
        request = self._request

        def build() -> Grammar | None:
            try:
                return grammar(request.answer, request.tools, request.tool_format, reasoning=self._reasoning(prompt))
            except RecursionError as error:
                raise BadRequest("A schema is nested too deeply.", code="invalid_schema") from error

        return await run_in_thread_if_large(request.size, build)

    async def _job(self, prompt: Prompt, turn: Turn) -> GenerationJob:
        request = self._request
        room = self._backend.context_length - len(prompt.ids)
        return GenerationJob(
            request_id=request.request_id,
            prompt=prompt.ids,
            # A request may ask for more than there is room for: it gets what there is, and the reason "length".
            max_tokens=min(room, request.max_tokens or room),
            sampling=request.sampling,
            stop_token_ids=request.stop_token_ids,
            owner=request.owner,
            session=turn.key,
            n=request.n,
            grammar=await self._grammar(prompt),
            top_logprobs=request.top_logprobs,
        )

    def _reasoning(self, prompt: Prompt) -> Reasoning:
        """Whether the reply begins with reasoning, as the end of the prompt shows."""
        ending = prompt.ending.rstrip()
        if not self._request.reasoning or ending.endswith(CLOSE):
            # A closed tag is how templates say that there is to be none.
            return "none"
        return "opened" if ending.endswith(OPEN) else "possible"

    def _new_fold(self, prompt: Prompt, index: int) -> Fold:
        request, tokenizer = self._request, self._backend.tokenizer
        opened = self._reasoning(prompt) == "opened"
        calls = None
        tools = request.tools
        if tools is not None and tools.callable and request.tool_format is not None and request.read_calls:
            calls = ToolParser(request.tool_format, tools.names, schemas=tools.schemas)
        return Fold(
            prompt_tokens=len(prompt.ids),
            stream=tokenizer.stream(),
            splitter=ReasoningSplitter(opened=opened) if request.reasoning else None,
            stops=request.stops,
            min_tokens=request.sampling.min_tokens,
            calls=calls,
            likelihoods=None if request.top_logprobs is None else Likelihoods(tokenizer.token_bytes),
            index=index,
        )

    def _describe(self, prompt: Prompt, turn: Turn) -> list[tuple[str, str]]:
        self.how = prompt.how
        if turn.session_id is not None and prompt.retained - self.fold.cached_tokens > REREAD:
            self.how = "rebuilt"
        return [
            ("x-ark-session", f"{turn.session_id or 'none'}; {self.how}"),
            ("x-ark-cached-tokens", str(self.fold.cached_tokens)),
        ]

    async def _commit(self, prompt: Prompt, turn: Turn, job: GenerationJob) -> None:
        if turn.session_id is None:
            return
        fold = self.fold
        message = reply_message(fold.content, fold.reasoning, fold.calls, legacy=self.legacy)
        transcript = prompt.finish(fold.token_ids, message, stop_ids=job.stop_token_ids, kept=fold.kept)
        await turn.commit(transcript)
