"""The tables of request parameters of docs/parameters.md, with what the engines honour of them."""

from __future__ import annotations

import msgspec

from ark.api.chat.parameters import CHANGING
from ark.api.chat.schema import ChatRequest
from ark.api.embeddings.inputs import MAX_INPUTS
from ark.api.embeddings.parameters import NEUTRAL
from ark.api.embeddings.schema import EmbeddingRequest
from ark.models.served import DOCUMENT_UNSUPPORTED
from ark_backends.kit.chat import PARAMETERS
from fields import values

CHAT_MEANING = {
    "model": "a served name or an alias",
    "messages": "roles system, developer, user, assistant, tool, function; text or text parts",
    "stream": "server-sent events",
    "stream_options": "`include_usage`: the usage as the last chunk",
    "max_tokens": "the older name of `max_completion_tokens`",
    "max_completion_tokens": "at most so many tokens, reasoning included",
    "temperature": "0 is greedy",
    "top_p": "the smallest set of tokens that reaches this probability",
    "top_k": "so many most likely tokens; 0 and -1 keep all",
    "min_p": "drops what is less likely than this share of the most likely token",
    "seed": "the same request gives the same tokens, whatever runs beside it",
    "frequency_penalty": "OpenAI's, over the generated tokens",
    "presence_penalty": "OpenAI's, over the generated tokens",
    "repetition_penalty": "vLLM's and Hugging Face's, over prompt and generated tokens",
    "logit_bias": "by token ids of the served model",
    "logprobs": "of the tokens behind the reasoning, at temperature 1, after penalties and bias",
    "top_logprobs": "so many most likely tokens beside each",
    "n": "several replies; the prompt is computed once, a session keeps the first",
    "stop": "up to 4 texts, found across tokens; nothing of them is ever sent",
    "stop_token_ids": "ids that end the reply",
    "min_tokens": "no end before so many tokens, unless a schema leaves nothing else",
    "ignore_eos": "goes on behind the model's own end",
    "response_format": "text, json_object, json_schema: enforced token by token; a schema that cannot be is a 400",
    "tools": "functions; arguments always parse, and follow the schema when `strict`",
    "tool_choice": "none, auto, required, a function, allowed_tools",
    "parallel_tool_calls": "false: one call at most",
    "functions": "the older form of `tools`",
    "function_call": "the older form of `tool_choice`",
    "reasoning_effort": "none switches thinking off; other degrees where the chat template has them",
    "chat_template_kwargs": "what the chat template is told, as `enable_thinking`",
    "user": "accepted, without effect",
    "ark_simplified": "a stream of bare text, see below",
    "ark_stateful": "which session, see below",
}
"""A line for each field of a chat request."""

EMBEDDING_MEANING = {
    "model": "a served name or an alias",
    "input": f"one input, or a list of up to {MAX_INPUTS:,}; ids are the model's own",
    "encoding_format": "base64: the bytes of float32 in little-endian order, as OpenAI's client asks for them",
    "dimensions": "a size that the model declares, as `GET /models` lists them",
    "user": "accepted, without effect",
    "ark_truncate": "cut an input that is over the model's length; it is a 400 otherwise",
    "ark_sparse": "the weights of an input's tokens too, by token id",
    "ark_colbert": "a vector for each token but the first too",
}
"""A line for each field of a request for embeddings."""


def chat_rows() -> list[str]:
    rows = ["| parameter | values | what it does | ARK's engines | the document |", "|---|---|---|---|---|"]
    for field in msgspec.structs.fields(ChatRequest):
        name = field.name
        # What cannot change an answer needs no engine that honours it.
        engine = "yes" if name in PARAMETERS or name not in CHANGING else "-"
        document = "-" if name in DOCUMENT_UNSUPPORTED else engine
        rows.append(f"| `{name}` | {values(field.type)} | {CHAT_MEANING[name]} | {engine} | {document} |")
    return rows


def embedding_rows() -> list[str]:
    rows = ["| parameter | values | what it does | models |", "|---|---|---|---|"]
    for field in msgspec.structs.fields(EmbeddingRequest):
        models = "BGE-M3" if field.name in NEUTRAL else "all"
        rows.append(f"| `{field.name}` | {values(field.type)} | {EMBEDDING_MEANING[field.name]} | {models} |")
    return rows
