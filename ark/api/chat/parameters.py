"""What a request says: its messages, what it asks of the reply, and of its conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from ark.api.chat.schema import ChatMessage, ChatRequest, FunctionCall, GenerationFields, TextPart, ToolCall
from ark.api.chat.tools import read_tools
from ark.api.request import Request, check_shape
from ark.chat.grammar import ANY_OBJECT, SCHEMA_PARAM, Answer
from ark.chat.tools.custom import INPUT
from ark.chat.tools.toolbox import call_for_template, function_call_id
from ark.chat.turn import TurnRequest
from ark.config import LimitsConfig
from ark.engines.chat import ChatBackend, SamplingParams
from ark.engines.json_schema import Bounds
from ark.engines.parameters import SMALLEST_TOP_P
from ark.errors import BadRequest, invalid_value, missing_parameter, shorten
from ark.models.served import ServedChat
from ark.sessions import transcript
from ark.sessions.service import Hints
from ark.sessions.transcript import Message

_ROLES = {"developer": "system", "function": "tool"}
"""What templates call them: functions, which came before tools, are tools."""

SESSION_HEADERS = (
    b"x-session-id",
    b"session-id",
    b"session_id",
    b"thread-id",
    b"x-session-affinity",
    b"x-claude-code-session-id",
)
"""Headers in which agents send a name of the session."""

_NAME_LENGTH = 1024

_SAMPLING = [field for field in SamplingParams.__struct_fields__ if field != "logit_bias"]


def without(body: ChatRequest, names: Sequence[str]) -> ChatRequest:
    """The request as if these parameters had not been sent. What is left is checked as a whole."""
    if body.stream_options is not None and not body.stream:
        raise invalid_value("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    if names:
        body = msgspec.structs.replace(body, **dict.fromkeys(names))
    if body.top_logprobs and not body.logprobs:
        raise invalid_value("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.")
    limit = body.max_completion_tokens or body.max_tokens
    if body.min_tokens and limit is not None and body.min_tokens > limit:
        raise invalid_value("min_tokens", f"{body.min_tokens} is more than the {limit} tokens that the reply may have.")
    if body.stream and body.ark_simplified and (body.n or 1) > 1:
        raise invalid_value("n", "In a simplified stream there is one reply only.")
    return body


def read(
    body: ChatRequest,
    messages: tuple[Message, ...],
    request: Request,
    served: ServedChat,
    backend: ChatBackend,
    *,
    limits: LimitsConfig,
) -> TurnRequest:
    """The turn that is asked for. Raises BadRequest with `param`."""
    tokenizer = backend.tokenizer
    sampling = read_sampling(body, served.default_sampling, tokenizer.vocab_size)
    answer = _answer(body)
    tools = read_tools(body) if any((body.tools, body.tool_choice, body.functions, body.function_call)) else None
    # A reply that is held to a form always ends with it: when it is complete nothing else can follow.
    bound = answer is not None or (tools is not None and bool(tools.callable))
    ends = frozenset() if body.ignore_eos and not bound else tokenizer.stop_token_ids
    max_tokens = body.max_completion_tokens or body.max_tokens
    return TurnRequest(
        request_id=request.id,
        model=body.model,
        owner=request.owner,
        messages=messages,
        max_tokens=max_tokens,
        sampling=sampling,
        stop_token_ids=ends.union(body.stop_token_ids or ()),
        stops=read_stops(body),
        reasoning=backend.capabilities.reasoning,
        n=body.n or 1,
        answer=answer,
        tools=tools,
        tool_format=served.tool_format,
        # A simplified stream has text and nothing else.
        read_calls=not (body.stream and body.ark_simplified),
        template_kwargs=_template_kwargs(body, tokenizer.chat_template or ""),
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        size=len(request.body),
        bounds=Bounds(limits.string_length, limits.array_items) if max_tokens is None else None,
        seconds=limits.generation_seconds,
    )


def read_hints(
    request: Request, asked: TurnRequest, model: str, *, cache_key: str | None, metadata: Mapping[str, Any] | None
) -> Hints:
    """By what the request's conversation may be found, beside the cookie. `model` is the served name, `cache_key` the
    body's ``prompt_cache_key``."""
    sent = [request.headers[name].decode("latin-1") for name in SESSION_HEADERS if name in request.headers]
    values = [*sent, cache_key, (metadata or {}).get("session_id")]
    names = (value for value in values if isinstance(value, str) and 0 < len(value) <= _NAME_LENGTH)
    return Hints(
        model=model,
        messages=asked.messages,
        tools=[] if asked.tools is None else [tool.for_template() for tool in asked.tools.tools],
        name=next(names, None),
        address=request.address,
        size=asked.size,
    )


def read_sampling(body: GenerationFields, defaults: SamplingParams, vocab_size: int) -> SamplingParams:
    """What the request does not say comes from the model's defaults."""
    values: dict[str, Any] = {name: value for name in _SAMPLING if (value := getattr(body, name)) is not None}
    if "top_p" in values:
        values["top_p"] = max(SMALLEST_TOP_P, values["top_p"])
    if "top_k" in values:
        values["top_k"] = max(0, values["top_k"])
    if body.logit_bias:
        values["logit_bias"] = {_token_id(key, vocab_size): value for key, value in body.logit_bias.items()}
    return msgspec.structs.replace(defaults, **values) if values else defaults


def read_stops(body: GenerationFields) -> Sequence[str]:
    """The stop strings."""
    return (body.stop,) if isinstance(body.stop, str) else body.stop or ()


def _token_id(key: str, vocab_size: int) -> int:
    if not (key.isascii() and key.isdigit()):
        raise invalid_value("logit_bias", f"The key '{shorten(key)}' is not a token id.")
    if len(key) > 18 or int(key) >= vocab_size:
        raise invalid_value("logit_bias", f"The model has no token {shorten(key)}: its ids end at {vocab_size - 1}.")
    return int(key)


def _answer(body: ChatRequest) -> Answer | None:
    """The form that the reply's content must have; None for text."""
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Answer(ANY_OBJECT)
    if wanted.json_schema is None:
        raise missing_parameter("response_format.json_schema")
    if wanted.json_schema.schema is None:
        return Answer(ANY_OBJECT)
    return Answer(wanted.json_schema.schema, SCHEMA_PARAM, strict=bool(wanted.json_schema.strict))


def _template_kwargs(body: ChatRequest, template: str) -> dict[str, Any]:
    """What the chat template is told. `reasoning_effort` says whether to think, and how much where the template asks;
    what `chat_template_kwargs` says itself comes first."""
    effort = body.reasoning_effort
    kwargs: dict[str, Any] = {}
    if effort is not None and "enable_thinking" in template:
        kwargs["enable_thinking"] = effort != "none"
    if effort is not None and "reasoning_effort" in template:
        kwargs["reasoning_effort"] = effort
    return kwargs | (body.chat_template_kwargs or {})


def check_count(items: Sequence[object], limits: LimitsConfig, place: str = "messages") -> None:
    """Raises BadRequest for more messages or items than a conversation may have."""
    if len(items) > limits.messages:
        raise BadRequest(
            f"Invalid '{place}': there are {len(items)}, and at most {limits.messages} are read.",
            param=place,
            code="array_above_max_length",
        )


def check_arguments(messages: Sequence[ChatMessage], limits: LimitsConfig) -> None:
    """Hold the arguments of all calls together, which are JSON inside strings of the body, to the limits of a body.
    Raises BadRequest."""
    depth, values = limits.json_depth, limits.json_values
    for index, message in enumerate(messages):
        calls = [call.function for call in message.tool_calls or () if call.function is not UNSET]
        for function in (*calls, *((message.function_call,) if message.function_call else ())):
            try:
                values -= check_shape(function.arguments.encode("utf-8", "surrogatepass"), depth=depth, values=values)
            except BadRequest as error:
                place = f"messages[{index}].{'tool_calls' if message.tool_calls else 'function_call'}"
                raise invalid_value(place, f"the arguments are too large. {error.message}") from error


def read_history(messages: Sequence[ChatMessage], limits: LimitsConfig) -> tuple[Message, ...]:
    """`read_messages`, within the limits of a body."""
    check_count(messages, limits)
    check_arguments(messages, limits)
    return read_messages(messages)


def read_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Messages as templates read them. Raises BadRequest with `param` as ``messages[2].content``."""
    return transcript.read_messages(_read_message(one, f"messages[{index}]") for index, one in enumerate(messages))


def _read_message(message: ChatMessage, where: str) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role)
    content = message.content
    if content is None and role != "assistant":
        raise invalid_value(f"{where}.content", f"a message of the role '{message.role}' needs content.")
    if content is not None and not isinstance(content, str):
        content = "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
    result: dict[str, Any] = {"role": role, "content": content or ""}
    if message.name is not None:
        result["name"] = message.name
    if role == "assistant":
        calls = _calls(message, where)
        if content is None and not calls and message.refusal is None:
            raise invalid_value(f"{where}.content", "an assistant's message needs content or tool calls.")
        if content is None and message.refusal is not None:
            result["content"] = message.refusal
        if message.reasoning_content:
            result["reasoning_content"] = message.reasoning_content
        if calls:
            result["tool_calls"] = calls
    if message.role == "tool":
        result["tool_call_id"] = _required(message.tool_call_id, f"{where}.tool_call_id")
    if message.role == "function":
        result["tool_call_id"] = function_call_id(_required(message.name, f"{where}.name"))
    return result


def _called(call: ToolCall, where: str) -> FunctionCall:
    """What is called, a custom tool as the function that it is to the model."""
    kind = call.function if call.type == "function" else call.custom
    if kind is UNSET:
        raise missing_parameter(f"{where}.{call.type}")
    if isinstance(kind, FunctionCall):
        return kind
    return FunctionCall(name=kind.name, arguments=json.dumps({INPUT: kind.input}, ensure_ascii=False))


def _calls(message: ChatMessage, where: str) -> list[dict[str, Any]]:
    calls = [(call.id, _called(call, f"{where}.tool_calls[{i}]")) for i, call in enumerate(message.tool_calls or ())]
    if (function := message.function_call) is not None:
        calls.append((function_call_id(function.name), function))
    return [call_for_template(number, function.name, function.arguments) for number, function in calls]


def _required(value: str | None, place: str) -> str:
    if value is None:
        raise missing_parameter(place)
    return value
