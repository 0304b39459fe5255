"""Which parameters a request asks for, and whether the serving model honours them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ark.backends import Capabilities, SamplingParams
from ark.errors import BadRequest, UnsupportedParameter
from ark.schemas.chat import ChatRequest

_NEUTRAL: dict[str, Callable[[Any], bool]] = {
    "temperature": lambda value: value == 1,
    "top_p": lambda value: value == 1,
    "top_k": lambda value: value <= 0,
    "min_p": lambda value: value == 0,
    "seed": lambda value: False,
    "frequency_penalty": lambda value: value == 0,
    "presence_penalty": lambda value: value == 0,
    "repetition_penalty": lambda value: value == 1,
    "logit_bias": lambda value: not value,
    "logprobs": lambda value: not value,
    "top_logprobs": lambda value: value == 0,
    "n": lambda value: value == 1,
    "stop": lambda value: not value,
    "stop_token_ids": lambda value: not value,
    "min_tokens": lambda value: value == 0,
    "ignore_eos": lambda value: not value,
    "response_format": lambda value: value.type == "text",
    "tools": lambda value: not value,
    "tool_choice": lambda value: value in ("none", "auto"),
    "functions": lambda value: not value,
    "function_call": lambda value: value in ("none", "auto"),
    # OpenAI's default; what it asks for is what a model does by itself.
    "reasoning_effort": lambda value: value == "medium",
    "chat_template_kwargs": lambda value: not value,
}
"""For each parameter that can change the answer: whether a value changes nothing, and so is always accepted."""

SMALLEST_TOP_P = 1e-9
"""What a `top_p` of 0, which OpenAI accepts, becomes: only the most likely token is left."""


def unsupported(body: ChatRequest, capabilities: Capabilities) -> list[str]:
    """Parameters whose value would change the answer and that the model cannot honour."""
    return [
        name
        for name, neutral in _NEUTRAL.items()
        if name not in capabilities.parameters and (value := getattr(body, name)) is not None and not neutral(value)
    ]


def check(body: ChatRequest, capabilities: Capabilities, *, ignore: bool) -> list[str]:
    """Names of the parameters to ignore. Raises UnsupportedParameter for the first one unless `ignore` is set."""
    names = unsupported(body, capabilities)
    if names and not ignore:
        name = names[0]
        raise UnsupportedParameter(f"The model '{body.model}' does not support '{name}'.", param=name)
    if body.stream_options is not None and not body.stream:
        raise BadRequest(
            "'stream_options' is only allowed when 'stream' is true.",
            param="stream_options",
            code="invalid_value",
        )
    return names


def sampling(body: ChatRequest, ignored: list[str], defaults: SamplingParams) -> SamplingParams:
    """The request's sampling values; what it does not say comes from the model's defaults."""

    def chosen(name: str, default: Any) -> Any:
        value = None if name in ignored else getattr(body, name)
        return default if value is None else value

    return SamplingParams(
        temperature=chosen("temperature", defaults.temperature),
        top_p=max(SMALLEST_TOP_P, chosen("top_p", defaults.top_p)),
        top_k=max(0, chosen("top_k", defaults.top_k)),
        min_p=chosen("min_p", defaults.min_p),
        seed=chosen("seed", defaults.seed),
    )


def stop_strings(body: ChatRequest, ignored: list[str]) -> tuple[str, ...]:
    if body.stop is None or "stop" in ignored:
        return ()
    return (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
