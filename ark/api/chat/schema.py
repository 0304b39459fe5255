"""The types of /chat/completions.

Ranges are OpenAI's, and vLLM's for what OpenAI does not have. Fields that are not listed are accepted and have no
effect (service_tier, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ark.chat.output.processor import TokenLogprobs
from ark.engines import parameters


class TextPart(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    text: str


class RefusalPart(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    refusal: str


ShortText = Annotated[str, Meta(max_length=1024)]
"""A name or an id: no template need write it, so the context's length does not bound it."""


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    name: ShortText
    arguments: str
    """JSON as text, as the model wrote it."""


class CustomCall(msgspec.Struct, frozen=True, kw_only=True):
    name: ShortText
    input: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call of a function or of a custom tool, as its type says."""

    id: ShortText
    function: FunctionCall | UnsetType = UNSET
    custom: CustomCall | UnsetType = UNSET
    type: Literal["function", "custom"] = "function"


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a request."""

    # Which fields a role needs is checked in `ark.api.chat.parameters`.
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[TextPart | RefusalPart], Meta(max_length=1024)] | None = None
    name: ShortText | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=1024)] | None = None
    tool_call_id: ShortText | None = None
    function_call: FunctionCall | None = None
    reasoning_content: str | None = None
    refusal: str | None = None


FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}\Z")]


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments; None for a function without any."""
    strict: bool | None = None
    """The arguments follow the schema whatever happens, and have no properties that it does not list; without it, they
    follow as far as the schema can be enforced."""


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True, tag="function", tag_field="type"):
    function: FunctionDefinition


class GrammarDefinition(msgspec.Struct, frozen=True, kw_only=True):
    syntax: Literal["lark", "regex"]
    definition: str


class CustomFormat(msgspec.Struct, frozen=True, kw_only=True):
    """Any text, or what a grammar allows, token by token."""

    type: Literal["text", "grammar"]
    grammar: GrammarDefinition | None = None


class CustomDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A tool whose input is text."""

    name: FunctionName
    description: str | None = None
    format: CustomFormat | None = None


class CustomToolDefinition(msgspec.Struct, frozen=True, kw_only=True, tag="custom", tag_field="type"):
    custom: CustomDefinition


class ChosenFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class NamedTool(msgspec.Struct, frozen=True, kw_only=True, tag="function", tag_field="type"):
    """``tool_choice``: this function and no other; also an entry of `AllowedTools`."""

    function: ChosenFunction


class NamedCustomTool(msgspec.Struct, frozen=True, kw_only=True, tag="custom", tag_field="type"):
    custom: ChosenFunction


class ToolSubset(msgspec.Struct, frozen=True, kw_only=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool | NamedCustomTool], Meta(min_length=1, max_length=128)]


class AllowedTools(msgspec.Struct, frozen=True, kw_only=True, tag="allowed_tools", tag_field="type"):
    """``tool_choice``: the model reads all tools and may call these."""

    allowed_tools: ToolSubset


ToolChoice = Literal["none", "auto", "required"] | NamedTool | NamedCustomTool | AllowedTools
FunctionChoice = Literal["none", "auto"] | ChosenFunction


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    include_usage: bool | None = None


class JSONSchemaFormat(msgspec.Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
    description: str | None = None
    schema: dict[str, Any] | None = None
    """None for any object."""
    strict: bool | None = None
    """A schema is enforced in either case. Strict: objects have no properties but those that it lists, where it does
    not say."""


class ResponseFormat(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JSONSchemaFormat | None = None


Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
]


class GenerationFields(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are chosen, and what ends a reply: the same for chat and for bare text."""

    temperature: parameters.Temperature | None = None
    top_p: parameters.Probability | None = None
    top_k: parameters.TopK | None = None
    min_p: parameters.Probability | None = None
    seed: parameters.Seed | None = None
    frequency_penalty: parameters.Penalty | None = None
    presence_penalty: parameters.Penalty | None = None
    repetition_penalty: parameters.PositivePenalty | None = None
    logit_bias: parameters.LogitBias | None = None

    stop: parameters.Stop | None = None
    stop_token_ids: parameters.StopTokenIds | None = None
    min_tokens: parameters.MinTokens | None = None
    ignore_eos: bool | None = None


class ChatRequest(GenerationFields, frozen=True, kw_only=True):
    """The body of POST /chat/completions. None means that the field was not sent, or sent as null."""

    model: parameters.Text
    messages: Annotated[list[ChatMessage], Meta(min_length=1)]

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: parameters.TokenCount | None = None
    max_completion_tokens: parameters.TokenCount | None = None

    logprobs: bool | None = None
    top_logprobs: parameters.TopLogprobs | None = None
    n: parameters.ReplyCount | None = None

    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolDefinition | CustomToolDefinition], Meta(max_length=128)] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[FunctionDefinition], Meta(max_length=128)] | None = None
    function_call: FunctionChoice | None = None
    reasoning_effort: parameters.ReasoningEffort | None = None
    chat_template_kwargs: parameters.TemplateArguments | None = None

    user: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    ark_simplified: bool | None = None
    ark_stateful: bool | str | None = None


class PromptTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    cached_tokens: int
    """Of the prompt, not computed again."""
    audio_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct, frozen=True, kw_only=True):
    reasoning_tokens: int
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


FinishReason = Literal["stop", "length", "tool_calls", "function_call"]


class ChoiceLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    content: Sequence[TokenLogprobs]
    refusal: None = None


class ReplyMessage(msgspec.Struct, frozen=True, kw_only=True):
    content: str | None
    """None where the reply is nothing but calls."""
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: Sequence[ToolCall] | UnsetType = UNSET
    function_call: FunctionCall | UnsetType = UNSET


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    message: ReplyMessage
    finish_reason: FinishReason
    logprobs: ChoiceLogprobs | None = None


class Completion(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created: int
    model: str
    choices: Sequence[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str | None = None


class StoredCompletion(Completion, frozen=True, kw_only=True):
    """A stored completion, with what its request asked for."""

    metadata: dict[str, str]
    request_id: str
    input_user: str | None
    temperature: float | None
    top_p: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None
    tools: Sequence[ToolDefinition | CustomToolDefinition] | None
    tool_choice: ToolChoice | None
    response_format: ResponseFormat | None


class CompletionUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /chat/completions/{completion}."""

    metadata: Metadata | None


class CompletionDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"


class FunctionCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a call; the name is there once."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class CustomCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a custom tool's call; the name is there once."""

    name: str | UnsetType = UNSET
    input: str = ""


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    function: FunctionCallDelta | UnsetType = UNSET
    custom: CustomCallDelta | UnsetType = UNSET


class ChoiceDelta(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: Sequence[ToolCallDelta] | UnsetType = UNSET
    function_call: FunctionCallDelta | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    delta: ChoiceDelta
    finish_reason: FinishReason | None = None
    logprobs: ChoiceLogprobs | None = None


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created: int
    model: str
    choices: Sequence[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    """Null in every chunk but the last when usage was asked for; not there otherwise."""
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    system_fingerprint: str | None = None
