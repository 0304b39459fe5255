"""Which parameters a request asks for, and whether the serving model honours them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ark.api import capabilities
from ark.api.chat.schema import ChatRequest
from ark.chat.grammar import ANY_OBJECT, SCHEMA_PARAM, Answer
from ark.chat.tools.request import Toolbox, toolbox
from ark.engines.backend import Capabilities
from ark.engines.chat import SamplingParams
from ark.engines.parameters import CHAT
from ark.errors import BadRequest, shorten

SMALLEST_TOP_P = 1e-9
"""What a `top_p` of 0, which OpenAI accepts, becomes: only the most likely token is left."""


def check(body: ChatRequest, honoured: Capabilities, *, ignore: bool) -> list[str]:
    """Names of the parameters to ignore. Raises UnsupportedParameter for the first one unless `ignore` is set."""
    names = capabilities.check(body, CHAT, honoured, ignore=ignore)
    if body.stream_options is not None and not body.stream:
        raise _invalid("stream_options", "'stream_options' is only allowed when 'stream' is true.")
    return names


def without(body: ChatRequest, names: list[str]) -> ChatRequest:
    """The request as if these parameters had not been sent. What is left is checked as a whole."""
    if names:
        body = msgspec.structs.replace(body, **dict.fromkeys(names))
    if body.top_logprobs and not body.logprobs:
        raise _invalid("top_logprobs", "'top_logprobs' is only allowed when 'logprobs' is true.")
    limit = body.max_completion_tokens or body.max_tokens
    if body.min_tokens and limit is not None and body.min_tokens > limit:
        raise _invalid("min_tokens", f"{body.min_tokens} is more than the {limit} tokens that the reply may have.")
    if body.stream and body.ark_simplified and (body.n or 1) > 1:
        raise _invalid("n", "In a simplified stream there is one reply only.")
    return body


def sampling(body: ChatRequest, defaults: SamplingParams, vocab_size: int) -> SamplingParams:
    """The request's sampling values; what it does not say comes from the model's defaults."""

    def chosen(name: str) -> Any:
        value = getattr(body, name)
        return getattr(defaults, name) if value is None else value

    return SamplingParams(
        temperature=chosen("temperature"),
        top_p=max(SMALLEST_TOP_P, chosen("top_p")),
        top_k=max(0, chosen("top_k")),
        min_p=chosen("min_p"),
        seed=chosen("seed"),
        frequency_penalty=chosen("frequency_penalty"),
        presence_penalty=chosen("presence_penalty"),
        repetition_penalty=chosen("repetition_penalty"),
        logit_bias=_logit_bias(body.logit_bias or {}, vocab_size),
        min_tokens=chosen("min_tokens"),
    )


def stop_strings(body: ChatRequest) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)


def stop_ids(body: ChatRequest, ends: frozenset[int]) -> frozenset[int]:
    """The ids that end a reply: the request's, and the model's own `ends` unless they are to be ignored.

    They are never ignored in a reply that is held to a form: when it is complete nothing else can follow.
    """
    asked = frozenset(body.stop_token_ids or ())
    box = tools(body)
    bound = answer(body) is not None or (box is not None and bool(box.callable))
    return asked if body.ignore_eos and not bound else asked | ends


def answer(body: ChatRequest) -> Answer | None:
    """The form that the reply's content must have; None for text."""
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return Answer(ANY_OBJECT)
    if wanted.json_schema is None:
        place = "response_format.json_schema"
        raise BadRequest(f"Missing required parameter: '{place}'.", param=place, code="missing_required_parameter")
    if wanted.json_schema.schema is None:
        return Answer(ANY_OBJECT)
    return Answer(wanted.json_schema.schema, SCHEMA_PARAM)


def tools(body: ChatRequest) -> Toolbox | None:
    """The tools that the reply may call."""
    return toolbox(
        tools=body.tools,
        tool_choice=body.tool_choice,
        parallel_tool_calls=body.parallel_tool_calls,
        functions=body.functions,
        function_call=body.function_call,
    )


def template_kwargs(body: ChatRequest, template: str) -> dict[str, Any]:
    """What the chat template is told. `reasoning_effort` says whether to think, and how much where the template asks;
    what `chat_template_kwargs` says itself comes first."""
    effort = body.reasoning_effort
    kwargs: dict[str, Any] = {}
    if effort is not None and "enable_thinking" in template:
        kwargs["enable_thinking"] = effort != "none"
    if effort is not None and "reasoning_effort" in template:
        kwargs["reasoning_effort"] = effort
    return kwargs | (body.chat_template_kwargs or {})


def _logit_bias(bias: Mapping[str, float], vocab_size: int) -> dict[int, float]:
    ids: dict[int, float] = {}
    for key, value in bias.items():
        if not (key.isascii() and key.isdigit()):
            raise _invalid("logit_bias", f"The key '{shorten(key)}' is not a token id.")
        if len(key) > 18 or int(key) >= vocab_size:
            raise _invalid("logit_bias", f"The model has no token {shorten(key)}: its ids end at {vocab_size - 1}.")
        ids[int(key)] = value
    return ids


def _invalid(param: str, reason: str) -> BadRequest:
    return BadRequest(f"Invalid '{param}': {reason}", param=param, code="invalid_value")
