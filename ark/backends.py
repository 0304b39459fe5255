"""What the server and an engine say to each other.

The server knows engines only through the protocols and values of this module. A backend is one class, found by
its entry point in the group ``ark.backends``; it imports this module, `ark.config` and `ark.errors`, and nothing
else of the server. Values that cross are engine-neutral: plain ids, numbers and text.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import IO, Any, Literal, Protocol, Self

import msgspec

from ark.config import ModelConfig

ENTRY_POINT_GROUP = "ark.backends"


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
    could be seen then. The last one has a `finish_reason`.
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


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can do, as GET /models lists it."""

    parameters: frozenset[str]
    """Request parameters that are honoured, by their names in the API."""
    reasoning: bool = False
    """The chat template has think tags: replies are split into reasoning and content."""


class BackendStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of an engine, cheap enough to take at every request. Counters only grow."""

    alive: bool
    """False once the engine can serve no more jobs; /ready is 503 from then on."""
    running: int = 0
    waiting: int = 0
    kv_bytes: int = 0
    """Bytes of KV held for running jobs and retained states."""
    kv_budget: int = 0
    steps: int = 0
    prompt_tokens_computed: int = 0
    prompt_tokens_cached: int = 0
    tokens_generated: int = 0
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0


class EmbeddingJob(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of one request, to be embedded together."""

    request_id: str
    inputs: Sequence[str | Sequence[int]]
    """Texts, or token ids of the model's own tokenizer; at least one, none empty. Special tokens that the model reads
    around a text are added by the backend, to ids only where they are not there."""
    truncate: bool = False
    """Cut an input that is over `EmbeddingBackend.max_length`, which is refused otherwise."""
    dimensions: int | None = None
    """One of `EmbeddingBackend.dimensions`; the first, the model's own, where it is None."""
    sparse: bool = False
    """Also the weight of each token of an input."""
    colbert: bool = False
    """Also a vector for each token of an input."""


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """What one input became. Vectors are rows of float32 in little-endian order, as OpenAI's base64 has them."""

    dense: bytes
    """One vector of the job's dimensions, ``4 * dimensions`` bytes; of length 1 unless the model's own files or its
    configuration say otherwise."""
    tokens: int
    """Tokens that the model read, special ones included."""
    sparse: Mapping[int, float] | None = None
    """Token id to its weight, over 0, where the job asks for it."""
    colbert: Sequence[bytes] | None = None
    """One vector of length 1 for each token but the first, where the job asks for them."""


class EmbeddingStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of an embedding engine, cheap enough to take at every request. Counters only grow."""

    alive: bool
    """False once the engine can serve no more jobs; /ready is 503 from then on."""
    running: int = 0
    """Jobs of which a part is being computed."""
    waiting: int = 0
    """Jobs of which nothing has been computed yet."""
    batches: int = 0
    inputs: int = 0
    """Inputs embedded."""
    tokens: int = 0
    """Tokens of these inputs, special ones included."""
    padded_tokens: int = 0
    """Places in the batches that held no token."""
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0


class TranscriptionJob(msgspec.Struct, frozen=True, kw_only=True):
    """One recording to be written down."""

    request_id: str
    audio: IO[bytes]
    """The file as it was sent, seekable, at its beginning. The backend may read it from any thread until the job's
    generator has been closed; it closes nothing."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """``translate`` writes English whatever is spoken."""
    language: str | None = None
    """One of `TranscriptionBackend.languages`; None lets the model find out."""
    prompt: str = ""
    """Text that is taken for what was said before: names and spellings that the model may expect."""
    temperature: float | None = None
    """0 to 1; 0 takes the most likely token. None is 0, and higher where a piece comes out badly."""
    words: bool = False
    """Also when each word was said."""
    max_seconds: float | None = None
    """Longest recording that is taken."""


class TranscriptionWord(msgspec.Struct, frozen=True, kw_only=True):
    """A word and when it was said."""

    text: str
    """With its punctuation, without spaces round it."""
    start: float
    """Seconds from the beginning of the recording; so is `end`."""
    end: float


class TranscriptionSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what was said, as OpenAI's verbose_json tells of it. Times are in seconds of the recording."""

    id: int
    """Counts the segments of a recording from 0."""
    seek: int
    """Where the window began in which it was heard, in frames of 10 ms."""
    start: float
    end: float
    text: str
    """With the space before it, so that the texts of all segments, joined, are the whole."""
    tokens: Sequence[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: Sequence[TranscriptionWord] = ()
    """Where the job asks for them."""


class TranscriptionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recording once it has been decoded."""

    language: str
    """Code of the language that is spoken: the job's, or the one found."""
    duration: float
    """Seconds of sound, silence included."""


class TranscriptionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a transcription engine, cheap enough to take at every request. Counters only grow."""

    alive: bool
    """False once the engine can serve no more jobs; /ready is 503 from then on."""
    running: int = 0
    waiting: int = 0
    audio_seconds: float = 0.0
    """Seconds of recordings whose transcription has ended or been cancelled, as far as they were heard."""
    segments: int = 0
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0


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


class Status(Protocol):
    """What the status of any engine tells."""

    @property
    def alive(self) -> bool: ...

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...


class Backend(Protocol):
    """An opened model of any task.

    Its class may have two static or class methods beside these, which ``ark check`` shows: ``missing() ->
    Sequence[str]``, what this machine lacks to open any model, each with what to do about it; and ``lacking(model,
    directory) -> Sequence[str]``, what it lacks to open this one, whose files are in a directory, or what is wrong with
    the model's own options.
    """

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        """Load a model. Long work happens in a worker thread; errors name what to change in the configuration."""
        ...

    async def close(self) -> None:
        """Fail what still runs, stop the engine and free its memory. May be called twice."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def status(self) -> Status: ...


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


class EmbeddingBackend(Backend, Protocol):
    """An opened embedding model."""

    @property
    def max_length(self) -> int:
        """Tokens of one input, special ones included."""
        ...

    @property
    def dimensions(self) -> Sequence[int]:
        """Sizes that a vector can have: the model's own, then the smaller ones that it was trained for."""
        ...

    def status(self) -> EmbeddingStatus: ...

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        """Embed the inputs of a job, in their order. Cancelling the call takes what still waits out of the queue.

        Raises `ark.errors.TooManyRequests` at once when the queue is full, `ark.errors.ContextLengthExceeded` and
        `ark.errors.BadRequest` with `param` as ``input[3]`` for an input that the model cannot read, and
        `ark.errors.Unavailable` when the engine fails.
        """
        ...


class TranscriptionBackend(Backend, Protocol):
    """An opened speech model."""

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages that the model knows, as in ISO 639-1 where they have one there."""
        ...

    def status(self) -> TranscriptionStatus: ...

    def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        """What is known of the recording, then its segments, each as soon as it is recognised.

        Closing the generator cancels the job within one step of the decoder. A recording that breaks off gives what
        could be decoded. Raises `ark.errors.TooManyRequests` at once when the queue is full,
        `ark.errors.UnsupportedMediaType` for what is not audio, `ark.errors.BadRequest` for a recording that is empty
        or too long, and `ark.errors.Unavailable` when the engine fails.
        """
        ...


_WORK = {"chat": "generate", "embedding": "embed", "transcription": "transcribe"}
"""The method that does the work of a task: by it a backend is known."""


def load_backend(name: str, task: str) -> type[Backend]:
    """The class that the entry point `name` of the group ``ark.backends`` points to.

    A name with a colon, ``package.module:Class``, is imported as it stands. Raises LookupError with the names that
    are installed, with what the import lacks, or when the class does not do `task`.
    """
    if ":" in name:
        point = EntryPoint(name, name, ENTRY_POINT_GROUP)
    else:
        found = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise LookupError(f"no backend is called {name!r}; installed: {known}")
        point = found[name]
    try:
        backend: type[Backend] = point.load()
    except (ImportError, AttributeError) as error:
        raise LookupError(f"the backend {name!r} cannot be imported: {error}") from error
    if not callable(getattr(backend, _WORK[task], None)):
        raise LookupError(f"the backend {name!r} does not do the task {task!r}: it has no method {_WORK[task]}")
    return backend
