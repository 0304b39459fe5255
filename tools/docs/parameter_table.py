"""Writes the tables of parameters in the README from the code that reads them.

``python tools/docs/parameter_table.py`` brings the README up to date; a test fails when it is not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ark.api.chat.parameters import CHANGING
from ark.api.chat.schema import ChatRequest
from ark.api.embeddings.inputs import MAX_INPUTS
from ark.api.embeddings.parameters import NEUTRAL
from ark.api.embeddings.schema import EmbeddingRequest
from ark.models.served import DOCUMENT_UNSUPPORTED
from ark_backends.kit.chat import PARAMETERS

README = Path(__file__).parents[2] / "README.md"

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
    "input": f"one input, or a list of up to {MAX_INPUTS:,}; ids are the model's own, see below",
    "encoding_format": "base64: the bytes of float32 in little-endian order, as OpenAI's client asks for them",
    "dimensions": "a size that the model declares, as `GET /models` lists them",
    "user": "accepted, without effect",
    "ark_truncate": "cut an input that is over the model's length; it is a 400 otherwise",
    "ark_sparse": "the weights of an input's tokens too, by token id",
    "ark_colbert": "a vector for each token but the first too",
}
"""A line for each field of a request for embeddings."""


class Table(NamedTuple):
    """A table of the README, between its two lines."""

    route: str
    kind: type
    """The type of the request."""
    meaning: Mapping[str, str]
    rows: Callable[[], list[str]]

    @property
    def begin(self) -> str:
        return f"<!-- This table of {self.route} is made by tools/docs/parameter_table.py -->\n"

    @property
    def end(self) -> str:
        return f"<!-- End of the table of {self.route} -->\n"

    def renewed(self, readme: str) -> str:
        """A README with the table of today."""
        before, _, rest = readme.partition(self.begin)
        _, _, after = rest.partition(self.end)
        rows = "\n".join(self.rows())
        return f"{before}{self.begin}\n{rows}\n\n{self.end}{after}"


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


TABLES = (
    Table("/chat/completions", ChatRequest, CHAT_MEANING, chat_rows),
    Table("/embeddings", EmbeddingRequest, EMBEDDING_MEANING, embedding_rows),
)


def values(kind: Any) -> str:
    """The type and range of a field, from its type."""
    return "; ".join(_values(msgspec.inspect.type_info(kind)))


def _values(info: Any) -> list[str]:
    types = msgspec.inspect
    info = info.type if isinstance(info, types.Metadata) else info
    match info:
        case types.UnionType():
            return list(dict.fromkeys(text for one in info.types for text in _values(one)))
        case types.LiteralType():
            # The order in the code is lost in the type.
            return [", ".join(sorted(str(value) for value in info.values))]
        case types.IntType():
            return [f"integer {_range(info)}".strip()]
        case types.FloatType():
            return [f"number {_range(info)}".strip()]
        case types.ListType() | types.VarTupleType():
            item = info.item_type
            kinds = item.types if isinstance(item, types.UnionType) else (item,)
            return [f"list of {' or '.join(_plural(kind) for kind in kinds)}"]
    names: dict[type, str] = {types.StrType: "text", types.BoolType: "true, false", types.NoneType: ""}
    name = names.get(type(info), "object")
    return [name] if name else []


def _plural(info: Any) -> str:
    (text,) = _values(info)
    if text.startswith("list "):
        return text.replace("list", "lists", 1)
    return f"{text.split()[0]}s" if text.split()[0] in ("integer", "number", "object", "text") else text


def _range(info: Any) -> str:
    low = f"over {info.gt:g}" if info.gt is not None else "" if info.ge is None else _number(info.ge)
    high = f"below {info.lt:g}" if info.lt is not None else "" if info.le is None else _number(info.le)
    if low and high:
        return f"{low} to {high}"
    return low if info.gt is not None else f"from {low}" if low else high


def _number(value: float) -> str:
    for power in (31, 63):
        if abs(value) in (2**power, 2**power - 1):
            return f"{'-' if value < 0 else ''}2^{power}{'' if value < 0 else ' - 1'}"
    return f"{value:g}"


def renewed(readme: str) -> str:
    """A README with the tables of today."""
    for table in TABLES:
        readme = table.renewed(readme)
    return readme


def main() -> None:
    old = README.read_text()
    for table in TABLES:
        if table.begin not in old or table.end not in old:
            sys.exit(f"{README} has no place for the table of {table.route}")
    README.write_text(renewed(old))


if __name__ == "__main__":
    main()
