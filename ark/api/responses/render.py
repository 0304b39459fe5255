"""A turn as items of a response, and as the events that tell of them while they are written."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from ark.api.responses import schema
from ark.api.responses.items import new_id
from ark.api.responses.tools import CalledTool
from ark.chat.output.processor import Delta, TokenLogprobs
from ark.chat.tools.custom import InputReader
from ark.chat.turn import Turn
from ark.errors import APIError

Event = dict[str, Any]

Kind = Literal["message", "reasoning", "function_call", "custom_tool_call"]

encode = msgspec.json.Encoder().encode


def sse_event(event: Event) -> bytes:
    """An event as server-sent events write it."""
    kind: str = event["type"]
    return b"event: " + kind.encode() + b"\ndata: " + encode(event) + b"\n\n"


class OpenItem:
    """An item that is being written."""

    def __init__(self, kind: Kind, index: int, *, call_id: str = "", tool: CalledTool | None = None) -> None:
        self.kind = kind
        self.index = index
        self.id = new_id(kind)
        self.call_id = call_id
        self.tool = tool or CalledTool("")
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprobs] = []
        self.input = InputReader()
        """Of a custom tool's call."""

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def item(self, status: schema.ItemStatus, *, summary: bool, sealed: str | None = None) -> schema.OutputItem:
        """The item so far; `summary` says that reasoning is sent as one."""
        text, begun = self.text, status != "in_progress"
        if self.kind == "message":
            content = [schema.OutputText(text=text, logprobs=self.logprobs)] if begun else []
            return schema.OutputMessage(id=self.id, status=status, content=content)
        if self.kind == "reasoning":
            return schema.OutputReasoning(
                id=self.id,
                status=status,
                summary=[schema.SummaryText(text=text)] if summary and begun else [],
                content=UNSET if summary else [schema.ReasoningText(text=text)] if begun else [],
                encrypted_content=UNSET if sealed is None else sealed,
            )
        namespace = self.tool.namespace or UNSET
        head: Any = {"id": self.id, "call_id": self.call_id, "name": self.tool.name, "namespace": namespace}
        if self.kind == "custom_tool_call":
            return schema.OutputCustomCall(**head, input=text, status=status)
        return schema.OutputCall(**head, arguments=text, status=status)


class ResponseRenderer:
    """Writes one response. Each method gives the events of what has happened, in order."""

    def __init__(
        self,
        head: schema.ResponseBody,
        called: Mapping[str, CalledTool],
        *,
        summary: bool = False,
        obfuscate: bool = False,
        logprobs: bool = False,
        seal: Callable[[], str] | None = None,
    ) -> None:
        """`called` are the tools by the names that the model has for them; `seal` gives the `encrypted_content` of the
        reasoning that has just ended."""
        self.body = head
        self._called = called
        self._summary = summary
        self._obfuscate = obfuscate
        self._logprobs = logprobs
        self._seal = seal
        self._items: list[schema.OutputItem] = []
        self._open: OpenItem | None = None
        self._sequence = 0

    def queue(self) -> list[Event]:
        """A response in the background waits for its turn."""
        return [self._about("response.created"), self._about("response.queued")]

    def start(self) -> list[Event]:
        """The turn has begun."""
        created = [] if self.body.background else [self._about("response.created")]
        self.body = msgspec.structs.replace(self.body, status="in_progress")
        return [*created, self._about("response.in_progress")]

    def delta(self, delta: Delta) -> list[Event]:
        events: list[Event] = []
        if delta.reasoning:
            self._write("reasoning", delta.reasoning, events)
        if delta.content:
            self._write("message", delta.content, events, delta.logprobs)
        for call in delta.calls:
            if call.id is not None:
                tool = self._called.get(call.name or "") or CalledTool(call.name or "")
                self._begin("custom_tool_call" if tool.custom else "function_call", events, call_id=call.id, tool=tool)
            opened = self._open
            if opened is not None and call.arguments:
                text = opened.input.push(call.arguments) if opened.tool.custom else call.arguments
                self._append(opened, text, events)
        return events

    def close(self, turn: Turn) -> list[Event]:
        """The reply is complete; what is left is `end`."""
        events: list[Event] = []
        cut = turn.outputs[0].finish_reason == "length"
        if self._open is None and not self._items:
            self._begin("message", events)
        self._end_item(events, "incomplete" if cut else "completed")
        self.body = msgspec.structs.replace(
            self.body,
            status="incomplete" if cut else "completed",
            incomplete_details=schema.IncompleteDetails(reason="max_output_tokens") if cut else None,
            completed_at=None if cut else int(time.time()),
            output=tuple(self._items),
            usage=usage(turn),
        )
        return events

    def end(self) -> list[Event]:
        """The response is kept."""
        return [self._about(f"response.{self.body.status}")]

    def fail(self, error: APIError) -> list[Event]:
        """The turn has failed, after its first event."""
        code = error.code or error.type
        said = {"type": error.type, "code": code, "message": error.message, "param": error.param}
        failed = schema.ResponseError(code="server_error" if error.status >= 500 else code, message=error.message)
        self.body = msgspec.structs.replace(self.body, status="failed", error=failed, output=tuple(self._items))
        return [self._event("error", **said | {"type": "error"}, error=said), self._about("response.failed")]

    def cancel(self) -> None:
        """The response in the background was cancelled. OpenAI has no event that says so."""
        self.body = msgspec.structs.replace(self.body, status="cancelled", output=tuple(self._items))

    def _about(self, kind: str) -> Event:
        return self._event(kind, response=self.body)

    def _event(self, kind: str, **fields: Any) -> Event:
        number = self._sequence
        self._sequence += 1
        return {"type": kind, "sequence_number": number, **fields}

    def _of(self, kind: str, item: OpenItem, **fields: Any) -> Event:
        return self._event(kind, item_id=item.id, output_index=item.index, **fields)

    def _write(self, kind: Kind, text: str, events: list[Event], logprobs: Sequence[TokenLogprobs] = ()) -> None:
        opened = self._open
        if opened is None or opened.kind != kind:
            opened = self._begin(kind, events)
        self._append(opened, text, events, logprobs)

    def _begin(self, kind: Kind, events: list[Event], **call: Any) -> OpenItem:
        self._end_item(events, "completed")
        self._open = opened = OpenItem(kind, len(self._items), **call)
        item = opened.item("in_progress", summary=self._summary)
        events.append(self._event("response.output_item.added", output_index=opened.index, item=item))
        if kind == "message":
            events.append(
                self._of("response.content_part.added", opened, content_index=0, part=schema.OutputText(text=""))
            )
        elif kind == "reasoning" and self._summary:
            part: Any = schema.SummaryText(text="")
            events.append(self._of("response.reasoning_summary_part.added", opened, summary_index=0, part=part))
        elif kind == "reasoning":
            part = schema.ReasoningText(text="")
            events.append(self._of("response.content_part.added", opened, content_index=0, part=part))
        return opened

    def _append(self, opened: OpenItem, text: str, events: list[Event], logprobs: Sequence[TokenLogprobs] = ()) -> None:
        if not text:
            return
        opened.texts.append(text)
        fields: dict[str, Any] = {"delta": text}
        if opened.kind == "message":
            shown = logprobs if self._logprobs else ()
            opened.logprobs += shown
            fields["logprobs"] = shown
        if self._obfuscate:
            fields["obfuscation"] = secrets.token_urlsafe(12)[: 1 + secrets.randbelow(16)]
        events.append(self._of(f"{self._texts_of(opened)}.delta", opened, **self._part_index(opened), **fields))

    def _end_item(self, events: list[Event], status: schema.ItemStatus) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        text, index = opened.text, self._part_index(opened)
        field = {"function_call": "arguments", "custom_tool_call": "input"}.get(opened.kind, "text")
        done: dict[str, Any] = {field: text}
        part: Any = schema.ReasoningText(text=text)
        if opened.kind == "message":
            done["logprobs"] = opened.logprobs
            part = schema.OutputText(text=text, logprobs=opened.logprobs)
        events.append(self._of(f"{self._texts_of(opened)}.done", opened, **index, **done))
        if "summary_index" in index:
            part = schema.SummaryText(text=text)
            events.append(self._of("response.reasoning_summary_part.done", opened, **index, part=part))
        elif index:
            events.append(self._of("response.content_part.done", opened, **index, part=part))
        sealed = self._seal() if opened.kind == "reasoning" and self._seal is not None else None
        item = opened.item(status, summary=self._summary, sealed=sealed)
        self._items.append(item)
        events.append(self._event("response.output_item.done", output_index=opened.index, item=item))

    def _texts_of(self, opened: OpenItem) -> str:
        """What the events of an item's text are called."""
        if opened.kind == "reasoning":
            return "response.reasoning_summary_text" if self._summary else "response.reasoning_text"
        names = {"message": "output_text", "function_call": "function_call_arguments"}
        return f"response.{names.get(opened.kind, 'custom_tool_call_input')}"

    def _part_index(self, opened: OpenItem) -> dict[str, int]:
        """Where in its item the text stands; a call has no parts."""
        if opened.kind == "reasoning" and self._summary:
            return {"summary_index": 0}
        return {"content_index": 0} if opened.kind in ("message", "reasoning") else {}


def usage(turn: Turn) -> schema.ResponseUsage:
    return schema.ResponseUsage(
        input_tokens=turn.prompt_tokens,
        input_tokens_details=schema.InputTokensDetails(cached_tokens=turn.cached_tokens),
        output_tokens=turn.completion_tokens,
        output_tokens_details=schema.OutputTokensDetails(reasoning_tokens=turn.reasoning_tokens),
        total_tokens=turn.prompt_tokens + turn.completion_tokens,
    )
