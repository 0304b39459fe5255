"""What a reply's text may be, from the request's format and tools, as one grammar.

The grammar begins with the reply's first letter. Reasoning is part of it, as any text up to its closing tag, and so
is free text, up to what opens a tool call: an engine only has to keep to it, and needs to know nothing of either.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import msgspec

from ark.chat.output.reasoning import CLOSE, OPEN
from ark.chat.tools.custom import INPUT
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.tagged import CALL_END, VALUE_END
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.chat.tools.value_schema import ValueSchema
from ark.engines.chat import Grammar
from ark.engines.json_schema import Bounds, bounded, closed
from ark.errors import BadRequest, invalid_value

SCHEMA_PARAM = "response_format.json_schema.schema"

WHITESPACE = r"[ \t]|\r?\n[ \t]{0,40}"
"""White space between the parts of a JSON value: a space, or a line break with its indentation. Without a bound a model
in doubt writes white space until its tokens are used up."""

_VALUE = {"$ref": "#/$defs/value"}
_KINDS = [{"type": kind} for kind in ("string", "number", "boolean", "null")]
ANY_OBJECT: dict[str, Any] = {
    "type": "object",
    "additionalProperties": _VALUE,
    "$defs": {
        "value": {
            "anyOf": [*_KINDS, {"type": "array", "items": _VALUE}, {"type": "object", "additionalProperties": _VALUE}]
        }
    },
}
"""JSON objects, with all values that they may hold, so that those can be limited too."""

Reasoning = Literal["none", "possible", "opened"]
"""Whether the reply begins with reasoning: never, if the model likes, or inside the prompt's opening tag."""


class Answer(msgspec.Struct, frozen=True):
    """The form of the reply's content: JSON of a schema."""

    schema: dict[str, Any]
    param: str | None = None
    """Where the schema stands in the request; None for ARK's own."""
    strict: bool = False
    """Objects have no properties but those that the schema lists, where it does not say."""


def grammar(
    answer: Answer | None,
    box: Toolbox | None,
    form: ToolFormat | None,
    *,
    reasoning: Reasoning = "none",
    bounds: Bounds | None = None,
) -> Grammar | None:
    """The grammar of a reply; None where any text will do."""
    writer = _Writer(reasoning, bounds)
    if box is None or form is None:
        if answer is None:
            return None
        return writer.json(answer)
    if not box.callable:
        return writer.json(answer) if answer is not None else writer.text(form)
    return writer.calls(answer, box, form)


class _Writer:
    """Collects the rules of a grammar in llguidance's dialect of Lark."""

    def __init__(self, reasoning: Reasoning, bounds: Bounds | None) -> None:
        self._reasoning = reasoning
        self._bounds = bounds
        self._rules: list[str] = []
        self._schemas: list[tuple[str, str]] = []
        self._written: str | None = None
        self._kinds: set[str] = set()
        """`object`, calls that end, and `last`, those that only the reply's end ends."""

    def json(self, answer: Answer) -> Grammar:
        self._answer(answer)
        return self._grammar("answer")

    def text(self, form: ToolFormat) -> Grammar:
        """Text without what opens a call. What a format without a marker begins a call with begins JSON as well."""
        marked = rf" & ~/(?s:.*){_regex(form.marker)}(?s:.*)/"
        self._rules.append(f"FREE: /(?s:.*)/{self._not_reasoning}{marked}")
        return self._grammar("FREE")

    def calls(self, answer: Answer | None, box: Toolbox, form: ToolFormat) -> Grammar:
        if form.tagged:
            end = rf"\n{_regex(VALUE_END)}\n"
            self._rules.append(f"value[lazy]: /(?s:.*){end}/\nEND_OF_VALUE: /{end}/")
        for i, tool in enumerate(box.callable):
            self._object(i, tool, form)
        for name, endless in (("object", False), ("last", True)):
            if chosen := [f"object{i}" for i, tool in enumerate(box.callable) if _is_endless(tool, form) is endless]:
                self._rules.append(f"{name}: {' | '.join(chosen)}")
                self._kinds.add(name)
        bare = self._bare(form, box.parallel)
        if box.required:
            return self._grammar("calls" if not form.bare else "bare")
        if answer is not None:
            self._answer(answer)
            return self._grammar(f"answer | {'bare' if form.bare else 'calls'}")
        return self._grammar(self._with_text(form, box.parallel) if not form.bare else f"bare | {bare}")

    @property
    def _not_reasoning(self) -> str:
        """Reasoning that has no rule of its own would be taken for free text, and calls in it for real ones."""
        return "" if self._reasoning == "none" else r" & ~/[ \t\r\n]*" + _regex(OPEN) + r"(?s:.*)/"

    def _grammar(self, body: str) -> Grammar:
        start = {"none": "rest", "possible": "reasoning? rest", "opened": "reasoning rest"}[self._reasoning]
        # Without the option, text that can only go on in one way is forced in the tokenizer's pieces for that text
        # alone, and not left to the model, which may have learned others.
        rules = ['%llguidance {"no_forcing": true}', f"start: {start}", f"rest: {body}"]
        if self._reasoning != "none":
            begin = r"[ \n]{0,2}" + _regex(OPEN) if self._reasoning == "possible" else ""
            rules.append(f"reasoning: thought SPACE\nthought[lazy]: /{begin}(?s:.*){_regex(CLOSE)}/")
        rules += ["SPACE: /[ \\t\\r\\n]{0,8}/", *self._rules]
        return Grammar(lark="\n".join(rules) + "\n", schemas=tuple(self._schemas), written=self._written)

    def _answer(self, answer: Answer) -> None:
        self._rules.append(f"answer: / ?/ {self._schema(answer.schema, answer.param, strict=answer.strict)}")

    def _schema(self, schema: dict[str, Any], param: str | None, *, strict: bool, lenient: bool = False) -> str:
        """A reference to JSON of a schema. Strict: without properties that it does not list. Lenient, as for the
        arguments of other tools: also without them, because functions take no others; what cannot be enforced is passed
        over."""
        options: dict[str, Any] = {"whitespace_pattern": WHITESPACE}
        if lenient:
            options["lenient"] = True
        if strict or lenient:
            schema = closed(schema)
        if self._bounds is not None:
            schema = bounded(schema, self._bounds)
        text = json.dumps(schema | {"x-guidance": options})
        if param is not None:
            self._schemas.append((param, text))
        return f"%json {text}"

    def _object(self, number: int, tool: Tool, form: ToolFormat) -> None:
        """The JSON object of a call, with the keys in the order that models write them in."""
        arguments = tool.parameters or {"type": "object", "properties": {}, "additionalProperties": False}
        # Arguments are an object whatever the schema says.
        arguments = arguments | {"type": "object"}
        if tool.lark is not None:
            self._raw(number, tool, tool.lark, form)
            return
        if form.tagged:
            self._tagged(number, tool, arguments)
            return
        schema = self._schema(arguments, tool.param, strict=tool.strict, lenient=not tool.strict)
        body = f"arguments{number}"
        if form.name_separator:
            head = f"{_text(tool.name)} {_text(form.name_separator)} GAP"
        else:
            name, key = json.dumps(json.dumps(tool.name)), json.dumps(f'"{form.key}"')
            head = f'"{{" GAP "\\"name\\":" GAP {name} GAP "," GAP {key} GAP ":" GAP'
            body += ' GAP "}"'
        self._rules.append(f"object{number}: {head} {body}\narguments{number}: {schema}")

    def _raw(self, number: int, tool: Tool, lark: str, form: ToolFormat) -> None:
        """A call whose input is written as it is, for in JSON another grammar would have to hold. What closes the call
        ends it; where nothing does, the end of the reply."""
        self._written = tool.param
        end = _text(chr(10)) if form.close else ""
        if form.tagged:
            head = _text(f"<function={tool.name}>\n<parameter={INPUT}>\n")
            end = f"{_text(chr(10) + VALUE_END + chr(10))} {_text(CALL_END)}"
        elif form.name_separator:
            head = f"{_text(tool.name)} {_text(form.name_separator + chr(10))}"
        else:
            head = f'"{{" GAP "\\"name\\":" GAP {json.dumps(json.dumps(tool.name))} GAP "," GAP "\\"{INPUT}\\":\\n"'
        self._rules.append(f"object{number}: {head} input{number} {end}\ninput{number}: %lark {{\n{lark}\n}}")

    def _tagged(self, number: int, tool: Tool, arguments: dict[str, Any]) -> None:
        """A call whose arguments are tags, in the schema's order. Of text only a list of values is held to."""
        properties = arguments.get("properties")
        if not isinstance(properties, dict):
            if tool.strict:
                raise _unenforceable(tool.param, "arguments that are tags need 'properties'")
            anything = r'("<parameter=" /[^>\n]{1,64}/ ">\n" value)*'
            self._rules.append(f"object{number}: {_text(f'<function={tool.name}>')} SPACE {anything} {_text(CALL_END)}")
            return
        required = arguments.get("required")
        shared = {key: arguments[key] for key in ("$defs", "definitions") if key in arguments}
        parts: list[str] = []
        for key, part in properties.items():
            place = f"{tool.param}.properties.{key}"
            if not key or re.search(r"[>\n]", key):
                raise _unenforceable(place, "no tag can have this name")
            value, schema = "value", ValueSchema(part, arguments)
            if not schema.is_text:
                json_value = self._schema(part | shared, place, strict=tool.strict, lenient=not tool.strict)
                value = f"{json_value} END_OF_VALUE"
            elif choices := schema.texts:
                value = f"({' | '.join(map(_text, choices))}) END_OF_VALUE"
            elif tool.strict and not schema.is_free:
                raise _unenforceable(place, "text that is written as it is cannot be held to a pattern or a length")
            name = f"parameter{number}_{len(parts)}"
            self._rules.append(f"{name}: {_text(f'<parameter={key}>')} {_text(chr(10))} {value}")
            parts.append(name if isinstance(required, list) and key in required else f"{name}?")
        head = f"{_text(f'<function={tool.name}>')} {_text(chr(10))}"
        self._rules.append(f"object{number}: {head} {' '.join(parts)} {_text(CALL_END)}")

    def _bare(self, form: ToolFormat, parallel: bool) -> str:
        """Rules for calls alone (`calls`, or `bare` for a format that needs no marker); the name of free text."""
        self._rules.append("GAP: / ?/")
        separator = form.separator.strip() if parallel else ""
        closed, endless = self._series("object", f"{_text(separator)} SPACE" if separator else None, "last")
        if form.bare:
            free = r"/(?s:.*)/ & ~/[ \t\r\n]*(\{|" + _regex(form.marker) + r")(?s:.*)/"
            calls = " | ".join(filter(None, (closed, endless)))
            self._rules.append(f"bare: SPACE {_text(form.marker)}? SPACE ({calls})\nFREE: {free}")
        elif form.array:
            calls = " | ".join(filter(None, (closed and f'{closed} GAP "]"', endless)))
            self._rules.append(f'list: / ?/ "[" GAP ({calls})\ncalls: {_text(form.marker)} list')
        else:
            last = f"{_text(form.marker)} last"
            closed, endless = self._series("call", _text(form.separator) if parallel else None, last)
            if "object" in self._kinds:
                body = "object" if form.name_separator else f"SPACE object SPACE {_text(form.close)}"
                self._rules.append(f"body: {body}\ncall: {_text(form.marker)} body")
            self._rules.append(f"calls: {' | '.join(filter(None, (closed, endless)))}")
        return "FREE"

    def _series(self, one: str, separator: str | None, last: str) -> tuple[str, str]:
        """Calls behind each other, where `separator` allows more than one: those that end, and those with a last one
        that does not. Empty where there are no such calls."""
        more = separator is not None and "object" in self._kinds
        closed = "" if "object" not in self._kinds else f"{one} ({separator} {one})*" if more else one
        endless = "" if "last" not in self._kinds else f"({one} {separator})* {last}" if more else last
        return closed, endless

    def _with_text(self, form: ToolFormat, parallel: bool) -> str:
        """Free text in which the marker opens a call."""
        not_reasoning = self._not_reasoning
        self._rules += [
            f"FIRST: /(?s:.*){_regex(form.marker)}/{not_reasoning}",
            "first[lazy]: FIRST",
            f"NEXT: /(?s:.*){_regex(form.marker)}/",
            "next[lazy]: NEXT",
            f"FREE: /(?s:.*)/{not_reasoning} & ~/(?s:.*){_regex(form.marker)}(?s:.*)/",
            f"END: /(?s:.*)/ & ~/(?s:.*){_regex(form.marker)}(?s:.*)/",
        ]
        if form.array:
            return "FREE | first list"
        closed, endless = self._series("body", "next" if parallel else None, "last")
        found = ["FREE", closed and f"first {closed} {'END' if parallel else '/ ?/'}", endless and f"first {endless}"]
        return " | ".join(filter(None, found))


def _is_endless(tool: Tool, form: ToolFormat) -> bool:
    """Nothing but the end of the reply ends a call of the tool."""
    return tool.lark is not None and not form.close


def _unenforceable(param: str, reason: str) -> BadRequest:
    return invalid_value(param, f"this schema cannot be enforced: {reason}.", code="invalid_schema")


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _regex(text: str) -> str:
    """Literal text inside a regular expression between slashes."""
    return re.escape(text).replace("/", "\\/")
