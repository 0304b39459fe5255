"""The types of /responses.

What differs with its `type`, items and tools, is one Struct with the fields of all: `ark.api.responses.items` and
`tools` check which a type needs. Fields that are not listed are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ark.api.chat.schema import FunctionName, Metadata, ShortText
from ark.chat.output.processor import TokenLogprobs
from ark.engines import parameters


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an item's content."""

    type: ShortText
    text: str | None = None
    refusal: str | None = None


Content = str | Annotated[list[Part], Meta(max_length=1024)]


class ToolGrammar(msgspec.Struct, frozen=True, kw_only=True):
    """What the input of a custom tool has to be."""

    type: Literal["text", "grammar"]
    syntax: Literal["lark", "regex"] | None = None
    definition: str | None = None


class ToolSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool of a request."""

    type: ShortText
    name: FunctionName | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of a function's arguments."""
    strict: bool | None = None
    format: ToolGrammar | None = None
    """Of a custom tool's input."""
    tools: Annotated[list[ToolSpec], Meta(max_length=128)] | None = None
    """Of a namespace."""


class InputItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item of a request's input."""

    type: ShortText | None = None
    id: ShortText | None = None
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: Content | None = None
    call_id: ShortText | None = None
    name: ShortText | None = None
    namespace: ShortText | None = None
    arguments: str | None = None
    """Of a function's call: JSON as text."""
    input: str | None = None
    """Of a custom tool's call."""
    output: Content | None = None
    """Of a tool."""
    summary: Annotated[list[Part], Meta(max_length=1024)] | None = None
    encrypted_content: str | None = None
    tools: Annotated[list[ToolSpec], Meta(max_length=128)] | None = None


class ChosenTool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``tool_choice``, or an entry of its ``allowed_tools``."""

    type: ShortText
    name: ShortText | None = None
    namespace: ShortText | None = None
    mode: Literal["auto", "required"] | None = None
    tools: Annotated[list[ChosenTool], Meta(min_length=1, max_length=128)] | None = None


class TextFormat(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"] = "text"
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")] | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    schema: dict[str, Any] | UnsetType | None = UNSET
    strict: bool | UnsetType | None = UNSET


class TextConfig(msgspec.Struct, frozen=True, kw_only=True):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    """Accepted; no template asks for it."""


class ReasoningConfig(msgspec.Struct, frozen=True, kw_only=True):
    effort: parameters.ReasoningEffort | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    """The reasoning is sent as a summary, whole: for clients that show summaries alone."""


class ResponseStreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_obfuscation: bool | None = None
    """Fills the events of a stream up with random letters, so that their lengths say less. Off where it is not sent."""


class ConversationReference(msgspec.Struct, frozen=True, kw_only=True):
    id: ShortText


Include = Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=32)]


class InputFields(msgspec.Struct, frozen=True, kw_only=True):
    """What the model reads."""

    model: parameters.Text | None = None
    """Without it, that of `previous_response_id`."""
    input: str | list[InputItem] | None = None
    """Text, or items."""
    instructions: str | None = None
    """The first system message; of this response only."""
    previous_response_id: ShortText | None = None
    """The response that this one continues, with its exact tokens."""
    conversation: ShortText | ConversationReference | None = None
    """The conversation that it belongs to, in place of `previous_response_id`."""
    tools: Annotated[list[ToolSpec], Meta(max_length=128)] | None = None
    """`function`, `custom`, `namespace`; hosted ones are left out."""
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    """none, auto, required, a function, a custom tool, allowed_tools."""
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    """`format`: text, json_object or json_schema, enforced token by token."""
    reasoning: ReasoningConfig | None = None
    """`effort`, as `reasoning_effort` of chat completions; `summary` has the reasoning sent as one."""
    truncation: Literal["auto", "disabled"] | None = None
    """``auto`` leaves whole turns out of the middle of what is too long; the header `x-ark-dropped-messages` says how
    many messages."""
    chat_template_kwargs: parameters.TemplateArguments | None = None


class ResponseRequest(InputFields, frozen=True, kw_only=True):
    """The body of POST /responses. None means that the field was not sent, or sent as null."""

    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    """`include_obfuscation`: random letters in each event, so that its length says less."""
    background: bool | None = None
    """Answer at once, and make the response meanwhile: ask for it by its id."""
    store: bool | None = None
    """Keep the response, so that its id can be asked for and continued. True where it is not sent."""
    include: Include | None = None
    """`message.output_text.logprobs`, `reasoning.encrypted_content`; others have no effect."""
    max_output_tokens: parameters.TokenCount | None = None
    """The largest number of tokens, reasoning included."""
    max_tool_calls: Annotated[int, Meta(ge=0)] | None = None
    """Accepted; it counts the calls of tools that OpenAI runs itself."""
    metadata: Metadata | None = None
    """Up to 16 texts, which the response repeats."""

    temperature: parameters.Temperature | None = None
    top_p: parameters.Probability | None = None
    top_k: parameters.TopK | None = None
    min_p: parameters.Probability | None = None
    seed: parameters.Seed | None = None
    frequency_penalty: parameters.Penalty | None = None
    presence_penalty: parameters.Penalty | None = None
    repetition_penalty: parameters.PositivePenalty | None = None
    logit_bias: parameters.LogitBias | None = None
    top_logprobs: parameters.TopLogprobs | None = None

    prompt_cache_key: str | None = None
    """Repeated by the response, as the next."""
    safety_identifier: str | None = None
    service_tier: str | None = None
    """Accepted, without effect."""
    user: str | None = None


# Replies.

ItemStatus = Literal["in_progress", "completed", "incomplete"]


class OutputText(msgspec.Struct, frozen=True, kw_only=True, tag="output_text", tag_field="type"):
    text: str
    annotations: Sequence[Any] = ()
    logprobs: Sequence[TokenLogprobs] = ()


class ReasoningText(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning_text", tag_field="type"):
    text: str


class SummaryText(msgspec.Struct, frozen=True, kw_only=True, tag="summary_text", tag_field="type"):
    text: str


class OutputMessage(msgspec.Struct, frozen=True, kw_only=True, tag="message", tag_field="type"):
    id: str
    status: ItemStatus
    content: Sequence[OutputText]
    role: Literal["assistant"] = "assistant"


class OutputReasoning(msgspec.Struct, frozen=True, kw_only=True, tag="reasoning", tag_field="type"):
    id: str
    summary: Sequence[SummaryText]
    content: Sequence[ReasoningText] | UnsetType = UNSET
    encrypted_content: str | UnsetType | None = UNSET
    status: ItemStatus | UnsetType = UNSET


class OutputCall(msgspec.Struct, frozen=True, kw_only=True, tag="function_call", tag_field="type"):
    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus
    namespace: str | UnsetType = UNSET


class OutputCustomCall(msgspec.Struct, frozen=True, kw_only=True, tag="custom_tool_call", tag_field="type"):
    id: str
    call_id: str
    name: str
    input: str
    status: ItemStatus
    namespace: str | UnsetType = UNSET


OutputItem = OutputMessage | OutputReasoning | OutputCall | OutputCustomCall


class InputTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    cached_tokens: int
    """Of the input, not computed again."""
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    reasoning_tokens: int


class ResponseUsage(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct, frozen=True, kw_only=True):
    reason: Literal["max_output_tokens"]


class ResponseError(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    message: str


class ReasoningEcho(msgspec.Struct, frozen=True, kw_only=True):
    effort: str | None = None
    summary: str | None = None


class TextEcho(msgspec.Struct, frozen=True, kw_only=True):
    format: TextFormat = TextFormat()
    verbosity: str = "medium"


class ResponseBody(msgspec.Struct, frozen=True, kw_only=True):
    """A response."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
    model: str
    output: Sequence[OutputItem] = ()
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    completed_at: int | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: ConversationReference | None = None
    tools: Sequence[dict[str, Any]] = ()
    tool_choice: Any = "auto"
    parallel_tool_calls: bool = True
    text: TextEcho = TextEcho()
    reasoning: ReasoningEcho | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    truncation: Literal["auto", "disabled"] = "disabled"
    store: bool = True
    background: bool = False
    metadata: dict[str, str] = {}
    service_tier: str = "default"
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None


class CompactedResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as its user's messages and a summary of all of it."""

    id: str
    created_at: int
    output: Sequence[dict[str, Any]]
    usage: ResponseUsage | None
    object: Literal["response.compaction"] = "response.compaction"


class ResponseDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["response.deleted"] = "response.deleted"


class InputTokens(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"
