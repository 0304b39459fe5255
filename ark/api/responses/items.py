"""Items of an input as the messages of a chat, and as they are kept and listed.

A reply is one message to a chat template and several items to the API: its reasoning, its text and its calls, in the
order in which they were written. Items of one reply become one message again.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ark.api.chat.schema import ChatMessage, FunctionCall, RefusalPart, TextPart, ToolCall
from ark.api.reasoning import SealedReasoning
from ark.api.responses.schema import Content, InputItem, Part, ToolSpec
from ark.chat.tools.custom import INPUT
from ark.errors import BadRequest, invalid_value, missing_parameter, shorten

Item = dict[str, Any]
"""An item as it is kept and listed."""

FindItem = Callable[[str], Item | None]


Unseal = Callable[[str], SealedReasoning]
"""Raises ValueError for what was not sealed here, and for this key."""

PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "cto",
    "additional_tools": "at",
    "compaction": "cmp",
}
_HOSTED = ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call", "mcp_list_tools")
"""Of tools that ARK does not run, so that nothing of them is in the model's words."""
_TEXT = frozenset({"input_text", "output_text", "text", "reasoning_text", "summary_text"})


def new_id(kind: str) -> str:
    """An id for an item of this type."""
    return f"{PREFIXES[kind]}_{secrets.token_hex(24)}"


def visible_name(name: str, namespace: str | None) -> str:
    """The name by which the model knows a tool."""
    return f"{namespace}.{name}" if namespace else name


@dataclass
class Input:
    """An input that has been read."""

    messages: list[ChatMessage] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where in the request each message comes from."""
    sealed: dict[int, SealedReasoning] = field(default_factory=dict)
    """What the `encrypted_content` of replies' reasoning holds, by the message's index."""
    items: list[Item] = field(default_factory=list)
    tools: list[ToolSpec] = field(default_factory=list)
    """Those of `additional_tools`."""
    ignored: list[str] = field(default_factory=list)
    """Types of items that say nothing to a model here."""

    def then(self, other: Input) -> Input:
        """The messages of both; the items of the other."""
        sealed = self.sealed | {len(self.messages) + index: one for index, one in other.sealed.items()}
        return Input(
            messages=self.messages + other.messages,
            places=self.places + other.places,
            sealed=sealed,
            items=other.items,
            tools=self.tools + other.tools,
            ignored=self.ignored + other.ignored,
        )


def read_input(value: str | Sequence[InputItem], find_item: FindItem, unseal: Unseal, place: str = "input") -> Input:
    """Raises BadRequest with `param` as ``input[2].content``."""
    reader = _Reader(find_item, unseal)
    if isinstance(value, str):
        value = [InputItem(role="user", content=value)]
        reader.read(value[0], place)
    else:
        for index, item in enumerate(value):
            reader.read(item, f"{place}[{index}]")
    reader.flush()
    return reader.input


@dataclass
class _Reply:
    """A reply whose items are being read."""

    place: str
    content: str | None = None
    reasoning: list[str] = field(default_factory=list)
    sealed: SealedReasoning | None = None
    calls: list[ToolCall] = field(default_factory=list)


class _Reader:
    def __init__(self, find_item: FindItem, unseal: Unseal) -> None:
        self.input = Input()
        self._unseal = unseal
        self._find_item = find_item
        self._reply: _Reply | None = None
        self._names: set[str] = set()
        self._place = ""
        """Where the item stands that is being read."""

    def read(self, item: InputItem, place: str) -> None:
        kind = item.type or ("message" if item.role is not None else "item_reference")
        if kind == "item_reference":
            item = self._resolve(item, place)
            kind = item.type or "message"
        if kind in _HOSTED:
            self.input.ignored.append(kind)
            return
        method = getattr(self, f"_{kind}", None) if kind in PREFIXES else None
        if method is None:
            raise invalid_value(f"{place}.type", f"Items of the type '{shorten(kind)}' are not read here.")
        self._place = place
        method(item, place)

    def flush(self) -> None:
        """The reply's items are all there."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        if reply.sealed is not None:
            self.input.sealed[len(self.input.messages)] = reply.sealed
        reasoning = "\n".join(reply.reasoning)
        content = reply.content if reply.content is not None or reply.calls else ""
        self._add(
            reply.place,
            ChatMessage(
                role="assistant",
                content=content,
                tool_calls=reply.calls or None,
                reasoning_content=reasoning or None,
            ),
        )

    def _add(self, place: str, message: ChatMessage) -> None:
        self.input.messages.append(message)
        self.input.places.append(place)

    def _keep(self, kind: str, item: InputItem, **fields: Any) -> None:
        name = item.id or new_id(kind)
        if name in self._names:
            raise invalid_value(self._place, f"The item '{shorten(name)}' stands twice.", code="duplicate_item")
        self._names.add(name)
        self.input.items.append({"id": name, "type": kind, **fields})

    def _resolve(self, item: InputItem, place: str) -> InputItem:
        if item.id is None:
            raise missing_parameter(f"{place}.type")
        found = self._find_item(item.id)
        if found is None:
            raise BadRequest(f"There is no item '{shorten(item.id)}'.", param=f"{place}.id", code="item_not_found")
        return msgspec.convert(found, InputItem)

    def _message(self, item: InputItem, place: str) -> None:
        if item.role is None:
            raise missing_parameter(f"{place}.role")
        if item.content is None:
            raise missing_parameter(f"{place}.content")
        content = _read_content(item.content, f"{place}.content")
        if item.role == "assistant":
            parts = [
                {"type": "output_text", "text": text, "annotations": [], "logprobs": []} for text in _texts(content)
            ]
            reply = self._reply
            if reply is None or (reply.content is not None and not reply.calls):
                reply = self._begin(place)
            reply.content = (reply.content or "") + "\n".join(_texts(content))
        else:
            parts = [{"type": "input_text", "text": text} for text in _texts(content)]
            self.flush()
            self._add(place, ChatMessage(role=item.role, content=content))
        self._keep("message", item, role=item.role, status="completed", content=parts)

    def _reasoning(self, item: InputItem, place: str) -> None:
        if self._reply is None or self._reply.content is not None or self._reply.calls:
            self._begin(place)
        assert self._reply is not None
        parts: Sequence[Part] = ()
        fields: dict[str, Any] = {"summary": _plain(item.summary or ())}
        if isinstance(item.content, str):
            raise invalid_value(f"{place}.content", "The content of reasoning is a list of parts.")
        if item.content:
            parts, fields["content"] = item.content, _plain(item.content)
        if item.encrypted_content is not None:
            self._reply.sealed = self._open(item.encrypted_content, f"{place}.encrypted_content")
            fields["encrypted_content"] = item.encrypted_content
            self._reply.reasoning.append(self._reply.sealed.text)
        else:
            self._reply.reasoning += _texts(_read_content([*(parts or item.summary or ())], place))
        self._keep("reasoning", item, **fields)

    def _open(self, text: str, place: str) -> SealedReasoning:
        try:
            return self._unseal(text)
        except ValueError as error:
            reason = "It was not made by this server, or not for this key."
            raise invalid_value(place, reason, code="invalid_encrypted_content") from error

    def _function_call(self, item: InputItem, place: str) -> None:
        name, arguments = _required(item.name, f"{place}.name"), _required(item.arguments, f"{place}.arguments")
        self._call(item, place, visible_name(name, item.namespace), arguments)
        self._keep("function_call", item, **_call_fields(item), arguments=arguments, status="completed")

    def _custom_tool_call(self, item: InputItem, place: str) -> None:
        name, text = _required(item.name, f"{place}.name"), _required(item.input, f"{place}.input")
        self._call(item, place, visible_name(name, item.namespace), json.dumps({INPUT: text}, ensure_ascii=False))
        self._keep("custom_tool_call", item, **_call_fields(item), input=text, status="completed")

    def _call(self, item: InputItem, place: str, name: str, arguments: str) -> None:
        call_id = _required(item.call_id, f"{place}.call_id")
        reply = self._reply or self._begin(place)
        reply.calls.append(ToolCall(id=call_id, function=FunctionCall(name=name, arguments=arguments)))

    def _function_call_output(self, item: InputItem, place: str) -> None:
        self._output("function_call_output", item, place)

    def _custom_tool_call_output(self, item: InputItem, place: str) -> None:
        self._output("custom_tool_call_output", item, place)

    def _output(self, kind: str, item: InputItem, place: str) -> None:
        self.flush()
        call_id = _required(item.call_id, f"{place}.call_id")
        if item.output is None:
            raise missing_parameter(f"{place}.output")
        content = _read_content(item.output, f"{place}.output")
        self._add(place, ChatMessage(role="tool", tool_call_id=call_id, content=content))
        output = item.output if isinstance(item.output, str) else _plain(item.output)
        self._keep(kind, item, call_id=call_id, output=output, status="completed")

    def _compaction(self, item: InputItem, place: str) -> None:
        """A summary of what came before."""
        self.flush()
        text = _required(item.encrypted_content, f"{place}.encrypted_content")
        summary = self._open(text, f"{place}.encrypted_content").text
        self._add(place, ChatMessage(role="system", content=f"Summary of the conversation before:\n{summary}"))
        self._keep("compaction", item, encrypted_content=text)

    def _additional_tools(self, item: InputItem, place: str) -> None:
        self.input.tools += item.tools or ()
        self._keep("additional_tools", item, role="developer", tools=msgspec.to_builtins(item.tools or []))

    def _begin(self, place: str) -> _Reply:
        self.flush()
        self._reply = _Reply(place)
        return self._reply


def _read_content(content: Content, place: str) -> str | list[TextPart | RefusalPart]:
    if isinstance(content, str):
        return content
    parts: list[TextPart | RefusalPart] = []
    for index, part in enumerate(content):
        if part.type == "refusal" and part.refusal is not None:
            parts.append(RefusalPart(refusal=part.refusal))
        elif part.type in _TEXT:
            parts.append(TextPart(text=_required(part.text, f"{place}[{index}].text")))
        else:
            reason = f"The models here read text, and no parts of the type '{shorten(part.type)}'."
            raise invalid_value(f"{place}[{index}].type", reason, code="unsupported_content")
    return parts


def _texts(content: str | list[TextPart | RefusalPart]) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part.text if isinstance(part, TextPart) else part.refusal for part in content]


def _plain(parts: Sequence[Part]) -> list[Item]:
    return [{"type": part.type, "text": part.text or part.refusal or ""} for part in parts]


def _call_fields(item: InputItem) -> Item:
    fields = {"call_id": item.call_id, "name": item.name}
    return fields if item.namespace is None else fields | {"namespace": item.namespace}


def _required(value: str | None, place: str) -> str:
    if value is None:
        raise missing_parameter(place)
    return value
