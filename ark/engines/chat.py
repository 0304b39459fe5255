"""The protocol of a chat engine, and the values that cross it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from ark.engines.backend import Backend, EngineStatus


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen from the model's logits.

    Applied in this order: penalties, bias, the ids that `min_tokens` and a grammar rule out, temperature, top_k, top_p,
    min_p; then one draw. The defaults change nothing: they sample from the model's own distribution.
    """

    temperature: float = 1.0
    """Divides the logits, 0 to 2; 0 takes the most likely token (greedy) and ignores top_k, top_p and min_p."""
    top_p: float = 1.0
    """Smallest set of tokens whose probability reaches top_p; over 0, up to 1."""
    top_k: int = 0
    """Number of most likely tokens kept; 0 keeps all."""
    min_p: float = 0.0
    """Drops tokens less likely than min_p times the most likely one; 0 to 1."""
    seed: int | None = None
    """The same job with the same seed gives the same tokens, whatever else runs beside it."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it has been generated; -2 to 2."""
    presence_penalty: float = 0.0
    """Subtracted from a token's logit once it has been generated; -2 to 2."""
    repetition_penalty: float = 1.0
    """Divides the positive and multiplies the negative logits of tokens in the prompt and the reply; over 0."""
    logit_bias: Mapping[int, float] = {}
    """Added to the logits of these ids."""
    min_tokens: int = 0
    """Before so many tokens are generated no stop id is chosen."""


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """What the text of a reply has to be, from its first letter to its last."""

    lark: str
    """The grammar in llguidance's dialect of Lark. Special tokens have no text, except those of think and tool tags."""
    schemas: Sequence[tuple[str, str]] = ()
    """The JSON schemas in it, each with where it stands in the request: they name the part that cannot be honoured."""
    written: str | None = None
    """Where in the request a grammar stands that the client has written and that is part of this one."""


class GenerationJob(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt to continue. It asks for nothing that the backend's `Capabilities` do not name."""

    request_id: str
    prompt: Sequence[int]
    """Token ids, at least one, exactly as the model is to read them; nothing is added or dropped."""
    max_tokens: int
    """Upper bound of generated tokens, at least 1. ``len(prompt) + max_tokens`` is within the context length."""
    sampling: SamplingParams = SamplingParams()
    stop_token_ids: frozenset[int] = frozenset()
    """Ids that end the generation, the model's own end-of-turn ids included."""
    owner: str = ""
    """Whose retained state the job may reuse. State never crosses owners, so timing tells nobody anything."""
    session: str | None = None
    """Names the conversation whose state this job continues and leaves behind; None leaves only a cache."""
    n: int = 1
    """Replies to the same prompt, which is computed once. The first one is the reply of the job with n = 1."""
    dropped: set[int] = msgspec.field(default_factory=set)
    """Replies, by their index, that are over for the server before the engine ends them: a stop string was found. The
    server adds to it while the job runs. An engine that looks here before each step need not compute them any further,
    and gives each a last batch with the reason "stop"; one that does not is right as well, for nobody reads on."""
    grammar: Grammar | None = None
    top_logprobs: int | None = None
    """None for no log-probabilities; else those of the chosen tokens, and of so many most likely ones beside them."""
    prompt_logprobs: bool = False
    """Those of the prompt's tokens too, in the model's own distribution at temperature 1; then none of it is taken from
    what is retained. Only for a backend whose `Capabilities` have it, and with `top_logprobs`."""


class TokenLogprob(msgspec.Struct, frozen=True, kw_only=True):
    """How likely a token was: the natural logarithm of its probability in the model's own distribution, at temperature
    1, after penalties and bias, before anything is ruled out."""

    logprob: float
    top: Sequence[tuple[int, float]] = ()
    """The most likely ids and their log-probabilities, in descending order."""


class TokenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What a job has produced since its last batch.

    The first batch of a job is sent when the engine admits it, before the prompt is computed: it has no tokens, and
    `cached_tokens` is set. It may come again, with a larger number, before the first tokens, where more was found than
    could be seen then. An engine that knows it only at the end tells it with the last batch. The last
    one has a `finish_reason`.
    """

    token_ids: Sequence[int] = ()
    """New ids. A stop id is included as the last one: it belongs to the transcript, not to the text."""
    cached_tokens: int | None = None
    """Prompt tokens whose state was retained and is not computed again."""
    finish_reason: Literal["stop", "length"] | None = None
    index: int = 0
    """Which of the job's `n` replies this is of. Each has its own last batch; only reply 0 tells `cached_tokens`."""
    logprobs: Sequence[TokenLogprob] = ()
    """One for each of `token_ids` where the job asks for them."""
    prompt_logprobs: Sequence[TokenLogprob] = ()
    """One for each further token of the prompt, beginning with its second, where the job asks for them. They come with
    reply 0, and all of them before its first token or with it."""


class BackendStatus(EngineStatus, frozen=True, kw_only=True):
    """A snapshot of a chat engine."""

    kv_bytes: int = 0
    """Bytes of KV held for running jobs and retained states."""
    kv_budget: int = 0
    steps: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0
    tokens_generated: int = 0


class TokenStream(Protocol):
    """Turns the ids of one reply into text, piece by piece."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Text that is complete with these ids: never half a character. May be empty."""
        ...

    def flush(self) -> str:
        """What is held back at the end of the reply; an incomplete character becomes U+FFFD."""
        ...


class Tokenizer(Protocol):
    """Text and ids of one model. Safe to call from any thread."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def stop_token_ids(self) -> frozenset[int]:
        """The model's own ids that end a turn."""
        ...

    @property
    def opening_ids(self) -> Sequence[int]:
        """What the model reads before a bare text, such as its token for the beginning; may be empty. A chat template
        writes it itself."""
        ...

    @property
    def special_texts(self) -> Collection[str]:
        """The texts that `encode` takes for special tokens: in a message they are text. May be empty."""
        ...

    @property
    def chat_template(self) -> str | None:
        """The Jinja source of the template, None where the model has none."""
        ...

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as the model's chat template writes it.

        Raises `ark.errors.BadRequest` with the template's own words when it refuses the messages.
        """
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of text in which special tokens stand as text; no token is added."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """What one id adds to a text, as UTF-8 that need not be whole characters."""
        ...

    def stream(self) -> TokenStream:
        """A fresh decoder for one reply. Special tokens give no text, think and tool tags do."""
        ...


class ChatBackend(Backend, Protocol):
    """An opened chat model."""

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def context_length(self) -> int:
        """Tokens of prompt and reply together."""
        ...

    @property
    def default_sampling(self) -> SamplingParams:
        """What the model's own files recommend; `SamplingParams()` where they say nothing."""
        ...

    def status(self) -> BackendStatus: ...

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        """Run a job. Closing the generator cancels the job within one engine step.

        Raises `ark.errors.TooManyRequests` at once when the queue is full, `ark.errors.BadRequest` when the grammar
        cannot be kept to, `ark.errors.Unavailable` when the engine fails.
        """
        ...

    def release(self, session: str) -> None:
        """Forget the state retained for a session, at the next step if one is running."""
        ...
