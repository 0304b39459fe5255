"""One turn of a chat: from a checked request to the pieces of its reply, kept by its session when it is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import anyio
import anyio.to_thread
import msgspec

from ark.backends import ChatBackend, GenerationJob, SamplingParams
from ark.chat.fold import Fold, Piece
from ark.chat.messages import TemplateMessage
from ark.chat.prompt import Prompt, PromptBuilder
from ark.chat.reasoning import OPEN, ReasoningSplitter
from ark.errors import APIError
from ark.sessions.service import Sessions, Turn
from ark.sessions.transcript import Past

INLINE_CHARACTERS = 8192
"""Up to this much text is rendered and tokenised on the event loop, where it takes less time than the way to a thread
and back is worth; longer text would hold up other requests."""

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
    messages: Sequence[TemplateMessage]
    max_tokens: int | None
    """None for as many as the context has room for."""
    sampling: SamplingParams
    stop_token_ids: frozenset[int]
    stops: Sequence[str]
    reasoning: bool
    """The model's replies may begin with reasoning."""


class ChatTurn:
    """A turn while it runs. `headers` and `fold` are there from the first piece on."""

    def __init__(
        self, request: TurnRequest, *, sessions: Sessions, backend: ChatBackend, prompts: PromptBuilder
    ) -> None:
        self._request = request
        self._sessions = sessions
        self._backend = backend
        self._prompts = prompts
        self.headers: list[tuple[str, str]] = []
        self.how = ""
        """What the request did to its session: created, continued, rewound, rebuilt or stateless."""
        self.session_id: str | None = None
        self._fold: Fold | None = None

    @property
    def fold(self) -> Fold:
        """The reply so far."""
        if self._fold is None:
            raise RuntimeError("the turn has not begun")
        return self._fold

    @property
    def begun(self) -> bool:
        return self._fold is not None

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The reply's pieces; the first one, empty, when the engine takes the job. The turn is committed before the
        generator ends, and only then: closed earlier, or failing, it leaves the session as it was."""
        request = self._request
        async with await self._sessions.begin(request.owner, cookie=request.cookie, stateful=request.stateful) as turn:
            self.session_id = turn.session_id
            cookie = [] if turn.set_cookie is None else [("set-cookie", turn.set_cookie)]
            try:
                prompt = await self._build(turn.choose(request.messages, self._prompts.model))
                job = self._job(prompt, turn)
                self._fold = self._new_fold(prompt)
                async with aclosing(self._fold.pieces(self._backend.generate(job))) as pieces:
                    first = True
                    async for piece in pieces:
                        if first:
                            first = False
                            self.headers += [*cookie, *self._describe(prompt, turn)]
                        yield piece
            except APIError as error:
                error.headers.update(cookie)
                raise
            await self._commit(prompt, turn, job)

    async def _build(self, past: Past) -> Prompt:
        if sum(len(message.data["content"]) for message in past.messages) <= INLINE_CHARACTERS:
            return self._prompts.build(past)
        return await anyio.to_thread.run_sync(self._prompts.build, past)

    def _job(self, prompt: Prompt, turn: Turn) -> GenerationJob:
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
        )

    def _new_fold(self, prompt: Prompt) -> Fold:
        opened = prompt.ending.rstrip().endswith(OPEN)
        return Fold(
            prompt_tokens=len(prompt.ids),
            stream=self._backend.tokenizer.stream(),
            splitter=ReasoningSplitter(opened=opened) if self._request.reasoning else None,
            stops=self._request.stops,
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
        message: TemplateMessage = {"role": "assistant", "content": fold.content}
        if fold.reasoning:
            message["reasoning_content"] = fold.reasoning
        transcript = prompt.finish(fold.token_ids, message, stop_ids=job.stop_token_ids, kept=fold.kept)
        # A turn is kept whole or not at all, so a client that leaves now does not stop it half-way.
        with anyio.CancelScope(shield=True):
            await turn.commit(transcript)
