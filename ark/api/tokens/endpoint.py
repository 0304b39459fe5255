"""POST /tokenize and /detokenize, in vLLM's shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ark.api.chat import parameters as chat_parameters
from ark.api.chat.parameters import read_history
from ark.api.chat.schema import ChatMessage, ChatRequest, CustomToolDefinition, ToolDefinition
from ark.api.request import Request, decode_body
from ark.chat.turn import prepare
from ark.concurrency import run_in_thread_if_large
from ark.engines import parameters
from ark.errors import BadRequest, invalid_value
from ark.http.response import Response
from ark.models.served import ServedChat
from ark.services import Services
from ark.sessions.transcript import Continuation


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /tokenize: a bare text, or messages as a chat completion has them."""

    model: parameters.Text
    prompt: str | None = None
    """Read as by POST /completions."""
    messages: Annotated[list[ChatMessage], Meta(min_length=1)] | None = None
    tools: Annotated[list[ToolDefinition | CustomToolDefinition], Meta(max_length=128)] | None = None
    chat_template_kwargs: parameters.TemplateArguments | None = None
    add_special_tokens: bool | None = None
    """False: nothing is put before a text. A chat template writes it itself."""
    return_token_strs: bool | None = None


class TokenList(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    max_model_len: int
    """The model's context length."""
    tokens: Sequence[int]
    token_strs: Sequence[str] | UnsetType = UNSET
    """The text of each token, where it was asked for; U+FFFD stands for bytes that are no whole character."""


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /detokenize."""

    model: parameters.Text
    tokens: Annotated[list[parameters.TokenId], Meta(max_length=2**20)]


class TokenText(msgspec.Struct, frozen=True, kw_only=True):
    prompt: str
    """The text of the tokens, special ones included."""


_TOKEN_BYTES = 16
"""What a token counts as: to decode one by itself takes as long as to work on so many bytes."""

_tokenize_decoder = msgspec.json.Decoder(TokenizeRequest)
_detokenize_decoder = msgspec.json.Decoder(DetokenizeRequest)


async def tokenize(request: Request, services: Services) -> Response:
    """The token ids of a text, or of messages as the model's chat template writes them. Nothing is generated."""
    body = await decode_body(_tokenize_decoder, request.body, services.config.limits)
    served = services.registry.find_for(ServedChat, body.model, request.key)
    backend = await served.ready()
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("Either 'prompt' or 'messages' is needed, and not both.", param="prompt")
    ids: Sequence[int]
    if body.messages is None:
        opening = body.add_special_tokens is not False
        text, prompts = body.prompt or "", served.prompts
        ids = await run_in_thread_if_large(len(request.body), lambda: prompts.encode(text, opening=opening))
    else:
        ids = await _encode_messages(body, body.messages, request, services, served)
    texts: Sequence[str] | UnsetType = UNSET
    if body.return_token_strs:
        texts = await run_in_thread_if_large(
            _TOKEN_BYTES * len(ids), lambda: [backend.tokenizer.decode([token]) for token in ids]
        )
    found = TokenList(count=len(ids), max_model_len=backend.context_length, tokens=ids, token_strs=texts)
    return Response(body=msgspec.json.encode(found))


async def _encode_messages(
    body: TokenizeRequest, messages: list[ChatMessage], request: Request, services: Services, served: ServedChat
) -> Sequence[int]:
    """The prompt that a chat completion of these messages would have. Raises BadRequest."""
    chat = ChatRequest(
        model=body.model, messages=messages, tools=body.tools, chat_template_kwargs=body.chat_template_kwargs
    )
    ignored = served.check(chat)
    chat = chat_parameters.without(chat, ignored)
    backend = await served.ready()
    limits = services.config.limits
    history = await run_in_thread_if_large(len(request.body), lambda: read_history(messages, limits))
    asked = chat_parameters.read(chat, history, request, served, backend, limits=limits)
    prompt, *_ = await prepare(asked, Continuation(asked.messages, how="stateless"), served.prompts)
    return prompt.ids


async def detokenize(request: Request, services: Services) -> Response:
    """The text of token ids."""
    body = await decode_body(_detokenize_decoder, request.body, services.config.limits)
    served = services.registry.find_for(ServedChat, body.model, request.key)
    tokenizer = (await served.ready()).tokenizer
    if body.tokens and max(body.tokens) >= tokenizer.vocab_size:
        raise invalid_value("tokens", f"The model has no token {max(body.tokens)}.")
    text = await run_in_thread_if_large(len(request.body), lambda: tokenizer.decode(body.tokens))
    return Response(body=msgspec.json.encode(TokenText(prompt=text)))
