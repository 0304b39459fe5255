"""A request as a chat's: one reading of parameters, tools and messages serves both."""

from __future__ import annotations

import re
from typing import Any

from ark.api.chat.schema import ChatMessage, ChatRequest, JSONSchemaFormat, ResponseFormat
from ark.api.own_names import Names
from ark.api.responses.items import Input
from ark.api.responses.schema import InputFields, ResponseRequest, TextFormat
from ark.api.responses.tools import Tools

LOGPROBS = "message.output_text.logprobs"
ENCRYPTED = "reasoning.encrypted_content"

_SAME = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "frequency_penalty", "presence_penalty"),
    *("repetition_penalty", "logit_bias"),
)
"""Parameters of the same name."""

NAMES: Names = (
    (re.compile(r"^response_format(\.json_schema)?"), "text.format"),
    (re.compile(r"^max(_completion)?_tokens$"), "max_output_tokens"),
    (re.compile(r"^reasoning_effort$"), "reasoning.effort"),
    (re.compile(r"^logprobs$"), "include"),
    (re.compile(r"^messages$"), "input"),
)


def chat_request(body: InputFields, model: str, read: Input, tools: Tools) -> ChatRequest:
    """The chat that a request amounts to. Raises BadRequest."""
    messages = list(read.messages)
    if body.instructions:
        messages.insert(0, ChatMessage(role="system", content=body.instructions))
    fields: dict[str, Any] = {}
    if isinstance(body, ResponseRequest):
        logprobs = LOGPROBS in (body.include or ())
        fields = {name: getattr(body, name) for name in _SAME} | {
            "stream": body.stream,
            "max_completion_tokens": body.max_output_tokens,
            "logprobs": logprobs or None,
            "top_logprobs": body.top_logprobs if logprobs else None,
        }
    form = None if body.text is None else body.text.format
    return ChatRequest(
        model=model,
        messages=messages,
        response_format=None if form is None else _response_format(form),
        tools=tools.definitions or None,
        tool_choice=tools.choice(body.tool_choice),
        parallel_tool_calls=body.parallel_tool_calls if tools.definitions else None,
        reasoning_effort=None if body.reasoning is None else body.reasoning.effort,
        chat_template_kwargs=body.chat_template_kwargs,
        **fields,
    )


def _response_format(form: TextFormat) -> ResponseFormat | None:
    if form.type != "json_schema":
        return None if form.type == "text" else ResponseFormat(type=form.type)
    schema = JSONSchemaFormat(
        name=form.name or "response",
        description=form.description or None,
        schema=form.schema or None,
        strict=form.strict or None,
    )
    return ResponseFormat(type="json_schema", json_schema=schema)
