"""The request parameters of every task: types, meanings, and what a model needs to honour them.

The schemas take their types from here, the capability checks the neutral values, and backends the names for their
`Capabilities`. The tables in the documentation and the conformance suite's list are generated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Need = Literal["engine", "tools", "thinking", "template"]
"""What honours a parameter: an engine, with a chat template that knows tools, that can switch thinking, or any."""

Text = Annotated[str, Meta(min_length=1)]
TokenLimit = Annotated[int, Meta(ge=0)]
TokenCount = Annotated[int, Meta(ge=1)]
Temperature = Annotated[float, Meta(ge=0, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
SMALLEST_TOP_P = 1e-9
"""What a `top_p` of 0, which OpenAI accepts, becomes: only the most likely token is left."""
TopK = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
PositivePenalty = Annotated[float, Meta(gt=0, le=2)]
LogitBias = dict[str, Annotated[float, Meta(ge=-100, le=100)]]
TopLogprobs = Annotated[int, Meta(ge=0, le=20)]
ReplyCount = Annotated[int, Meta(ge=1, le=128)]
StopText = Annotated[str, Meta(min_length=1, max_length=1024)]
Stop = StopText | Annotated[list[StopText], Meta(max_length=4)]
StopTokenIds = Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=1024)]
MinTokens = Annotated[int, Meta(ge=0)]
TemplateArguments = Annotated[dict[str, Any], Meta(max_length=64)]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenIds = Annotated[list[TokenId], Meta(min_length=1)]
Input = Text | Annotated[list[Text | TokenId | TokenIds], Meta(min_length=1)]
Prompt = str | Annotated[list[str | TokenId | TokenIds], Meta(min_length=1)]
LegacyLogprobs = Annotated[int, Meta(ge=0, le=20)]
Encoding = Literal["float", "base64"]
Dimensions = Annotated[int, Meta(ge=1, le=2**31 - 1)]
MAX_INPUTS = 2048
"""Inputs of one request for embeddings, as at OpenAI; documents of one to rerank."""
MAX_CHUNKS = 16
Chunks = Annotated[int, Meta(ge=1, le=MAX_CHUNKS)]
Texts = Annotated[list[str], Meta(min_length=1)]

SpeechFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularities = tuple[Literal["word", "segment"], ...]


class Parameter(msgspec.Struct, frozen=True):
    """A row of a table."""

    name: str
    type: Any
    """With its range; None for an object that the API's schema defines."""
    meaning: str
    """For the documentation, in Markdown."""
    neutral: tuple[Any, ...] | None = None
    """Values that change nothing, so that every model accepts them; None where every model accepts any value."""
    needs: Need | None = "engine"
    """None where the server does all of the work."""
    document: bool = False
    """ARK's founding document has it: it stays with ``capabilities = "document"``."""

    def is_neutral(self, value: Any) -> bool:
        """Whether a value that was sent changes nothing. An object is known by its `type`."""
        return self.neutral is None or getattr(value, "type", value) in self.neutral


Table = Mapping[str, Parameter]


def _table(*rows: Parameter) -> Table:
    return {row.name: row for row in rows}


def honoured(table: Table) -> frozenset[str]:
    """The names of all parameters that a model may honour."""
    return frozenset(name for name, row in table.items() if row.needs is not None)


def beyond_document(table: Table) -> frozenset[str]:
    """The names of those among them that the founding document calls unsupported, or does not speak of."""
    return frozenset(name for name in honoured(table) if not table[name].document)


CHAT = _table(
    Parameter("model", Text, "a served name or an alias", needs=None, document=True),
    Parameter(
        "messages",
        None,
        "roles system, developer, user, assistant, tool, function; text or text parts",
        needs=None,
        document=True,
    ),
    Parameter("stream", bool, "server-sent events", document=True),
    Parameter("stream_options", None, "`include_usage`: the usage as the last chunk", document=True),
    Parameter("max_tokens", TokenCount, "the older name of `max_completion_tokens`", document=True),
    Parameter("max_completion_tokens", TokenCount, "the largest number of tokens, reasoning included", document=True),
    Parameter("temperature", Temperature, "0 is greedy", (1,), document=True),
    Parameter("top_p", Probability, "the smallest set of tokens that reaches this probability", (1,)),
    Parameter("top_k", TopK, "keeps this many of the most likely tokens; 0 and -1 keep all", (0, -1)),
    Parameter("min_p", Probability, "drops tokens less likely than this share of the most likely one", (0,)),
    Parameter("seed", Seed, "the same request gives the same tokens, whatever other requests run", ()),
    Parameter("frequency_penalty", Penalty, "OpenAI's, over the generated tokens", (0,)),
    Parameter("presence_penalty", Penalty, "OpenAI's, over the generated tokens", (0,)),
    Parameter(
        "repetition_penalty", PositivePenalty, "vLLM's and Hugging Face's, over prompt and generated tokens", (1,)
    ),
    Parameter("logit_bias", LogitBias, "by token ids of the served model", ({},)),
    Parameter(
        "logprobs", bool, "of the tokens after the reasoning, at temperature 1, after penalties and bias", (False,)
    ),
    Parameter("top_logprobs", TopLogprobs, "this many of the most likely alternatives for each token", (0,)),
    Parameter("n", ReplyCount, "several replies; the prompt is computed once, a session keeps the first", (1,)),
    Parameter("stop", Stop, "up to 4 texts, found across tokens and never sent", ([],)),
    Parameter("stop_token_ids", StopTokenIds, "ids that end the reply", ([],)),
    Parameter(
        "min_tokens",
        MinTokens,
        "the reply does not end before this many tokens, unless a schema allows nothing else",
        (0,),
    ),
    Parameter("ignore_eos", bool, "continues after the model's own end token", (False,)),
    Parameter(
        "response_format",
        None,
        "text, json_object or json_schema, enforced token by token; a schema that cannot be enforced is a 400",
        ("text",),
    ),
    Parameter(
        "tools",
        None,
        "functions (arguments always parse, and follow a `strict` schema), custom tools",
        ([],),
        needs="tools",
    ),
    Parameter("tool_choice", None, "none, auto, required, a function, allowed_tools", ("none", "auto"), needs="tools"),
    Parameter("parallel_tool_calls", bool, "false: one call at most", needs="tools"),
    Parameter("functions", None, "the older form of `tools`", ([],), needs="tools"),
    Parameter("function_call", None, "the older form of `tool_choice`", ("none", "auto"), needs="tools"),
    Parameter(
        "reasoning_effort",
        ReasoningEffort,
        "none turns thinking off; other degrees if the chat template has them; nothing to a model that never thinks",
        # OpenAI's default; it asks for what a model does by itself.
        ("medium",),
        needs="thinking",
    ),
    Parameter(
        "chat_template_kwargs",
        TemplateArguments,
        "what the chat template is told, as `enable_thinking`",
        ({},),
        needs="template",
    ),
    Parameter("user", str, "accepted, without effect", needs=None, document=True),
    Parameter("prompt_cache_key", str, "a name of the session", needs=None, document=True),
    Parameter("metadata", dict[str, Any], "`session_id`: a name of the session", needs=None, document=True),
    Parameter("store", bool, "keep the completion, and its metadata of up to 16 texts", needs=None, document=True),
    Parameter("ark_simplified", bool, "a stream of bare text, see below", needs=None, document=True),
    Parameter("ark_stateful", bool | str, "which session, see below", needs=None, document=True),
)
"""POST /chat/completions."""

_COMMON = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "frequency_penalty", "presence_penalty", "repetition_penalty"),
    *("logit_bias", "n", "stop", "stop_token_ids", "min_tokens", "ignore_eos"),
)

COMPLETIONS = _table(
    Parameter("model", Text, "a served name or an alias", needs=None),
    Parameter("prompt", Prompt, f"one text or list of token ids, or up to {MAX_INPUTS:,} of them", needs=None),
    Parameter("suffix", str, "text that comes after the reply, for a model that was trained to fill in", needs=None),
    Parameter("stream", bool, "server-sent events", needs=None),
    Parameter("stream_options", None, "`include_usage`: the usage as the last chunk", needs=None),
    Parameter("max_tokens", TokenLimit, "16 when it is not sent, as at OpenAI; 0 with `echo`", needs=None),
    Parameter("echo", bool, "the prompt before the reply", needs=None),
    Parameter("logprobs", LegacyLogprobs, "of the tokens, and of so many of the most likely ones", needs=None),
    Parameter("best_of", ReplyCount, "so many replies are made, and the `n` most likely are sent", needs=None),
    Parameter("add_special_tokens", bool, "false: nothing is put before a text", needs=None),
    *(CHAT[name] for name in _COMMON),
    Parameter("user", str, "accepted, without effect", needs=None),
)
"""POST /completions."""

EMBEDDINGS = _table(
    Parameter("model", Text, "a served name or an alias", needs=None),
    Parameter("input", Input, f"one input, or a list of up to {MAX_INPUTS:,}; ids are the model's own", needs=None),
    Parameter(
        "encoding_format",
        Encoding,
        "base64: the bytes of float32 in little-endian order, as OpenAI's client asks for them",
    ),
    Parameter("dimensions", Dimensions, "a size that the model declares, as `GET /models` lists them"),
    Parameter("user", str, "accepted, without effect", needs=None),
    Parameter("ark_truncate", bool, "cut an input that is over the model's length; it is a 400 otherwise"),
    Parameter("ark_sparse", bool, "the weights of an input's tokens too, by token id", (False,)),
    Parameter("ark_colbert", bool, "a vector for each token but the first too", (False,)),
)
"""POST /embeddings."""

_RAW_SCORES = Parameter("raw_scores", bool, "the model's own numbers, not the sigmoid of each", needs=None)

RERANK = _table(
    Parameter("model", Text, "a served name or an alias", needs=None),
    Parameter("query", Text, "what the documents are to answer", needs=None),
    Parameter("documents", None, f"up to {MAX_INPUTS:,} texts, or objects with a `text`", needs=None),
    Parameter("top_n", TokenCount, "so many of the best results; all when it is not sent", needs=None),
    Parameter("return_documents", bool, "the text of each document in its result", needs=None),
    Parameter("max_tokens_per_doc", TokenCount, "tokens of a document that are read"),
    Parameter(
        "max_chunks_per_doc",
        Chunks,
        "read a longer document in so many pieces and take the best score; 1 when it is not sent",
    ),
    Parameter("rank_fields", list[str], '`["text"]` is accepted, others are refused', ([], ["text"])),
    _RAW_SCORES,
)
"""POST /rerank."""

SCORE = _table(
    Parameter("model", Text, "a served name or an alias", needs=None),
    Parameter("text_1", Text | Texts, "one query, or one for each text of `text_2`", needs=None),
    Parameter("text_2", str | Texts, f"a document, or up to {MAX_INPUTS:,} of them", needs=None),
    _RAW_SCORES,
)
"""POST /score."""

TRANSCRIPTIONS = _table(
    Parameter("file", None, "the recording, in any usual format of audio, or a film with sound", needs=None),
    Parameter("model", Text, "a served name or an alias", needs=None),
    Parameter("prompt", str, "text that is taken for what was said before"),
    Parameter(
        "temperature",
        Probability,
        "0 takes the most likely words; without it 0, and more where a piece comes out badly",
    ),
    Parameter("response_format", SpeechFormat, "text, subtitles, or segments with times; `json` when it is not sent"),
    Parameter("stream", bool, "events, a segment at a time; with `json` and `text`"),
    Parameter("language", str, "a code of ISO 639-1 or an English name; found out when it is not sent"),
    Parameter(
        "timestamp_granularities",
        Granularities,
        "segments, words or both, with `verbose_json`; sent as `timestamp_granularities[]`",
    ),
    Parameter("include", tuple[str, ...], "sent as `include[]`; `logprobs` is refused, see below", ((),)),
    # What "auto" asks for, cutting as the server sees fit, is what every model here does.
    Parameter("chunking_strategy", str, "`auto` is accepted, others are refused", ("auto",)),
)
"""POST /audio/transcriptions; /audio/translations has the first six."""
