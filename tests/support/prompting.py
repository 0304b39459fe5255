"""Prompts of a tokenizer, and the turns that follow them."""

from __future__ import annotations

from typing import Any

from ark.chat.prompt.builder import Prompt, PromptBuilder
from ark.sessions.transcript import Continuation, Transcript, read_messages

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def builder_of(tokenizer: Any, context_length: int = 10_000) -> PromptBuilder:
    return PromptBuilder(tokenizer, model="m", context_length=context_length)


def begin(tokenizer: Any, *messages: dict[str, Any], **options: Any) -> Prompt:
    return builder_of(tokenizer).build(Continuation(read_messages(messages)), **options)


def reply(tokenizer: Any, prompt: Prompt, text: str, message: dict[str, Any], stop: str = "") -> Transcript:
    """The turn's transcript, its text stopped by the model's usual stop id, or another one."""
    ids = [*tokenizer.encode(text), tokenizer.core.token_to_id(stop or tokenizer.stop)]
    return prompt.finish(ids, message, stop_ids=tokenizer.stop_token_ids)


def go_on(tokenizer: Any, transcript: Transcript, *messages: dict[str, Any], **options: Any) -> Prompt:
    kept = len(transcript.messages)
    continuation = Continuation((*transcript.messages, *read_messages(messages)), transcript, kept, "continued")
    return builder_of(tokenizer).build(continuation, **options)
