"""Schemas that were made to harm: what compiling them may cost, and that it never costs the process."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

import torch
from letters import END, START, TOKENS, encode

from ark.chat.grammar import SCHEMA_PARAM, Answer, grammar
from ark.chat.tools.formats import LLAMA
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.engines.chat import Grammar
from ark.errors import BadRequest, Unavailable
from ark_backends.kit import child_process
from ark_backends.kit.grammar import NICE, GrammarFailed, Grammars
from ark_backends.kit.schema_limits import MAX_NESTING
from ark_backends.kit.schema_references import nesting
from ark_backends.kit.simple_schemas import is_simple

GRAMMARS = Grammars(TOKENS, hidden=[START], ends=[END])


def of(schema: dict[str, Any]) -> Grammar:
    made = grammar(Answer(schema, SCHEMA_PARAM), None, None)
    assert made is not None
    return made


def of_tool(parameters: dict[str, Any], *, strict: bool = False) -> Grammar:
    tool = Tool(name="f", parameters=parameters, strict=strict, param="tools[0].function.parameters")
    made = grammar(None, Toolbox(tools=(tool,), callable=(tool,), required=True, parallel=False), LLAMA)
    assert made is not None
    return made


def of_custom_tool(lark: str) -> Grammar:
    tool = Tool(name="f", strict=True, param="tools[0].custom.format", custom=True, lark=lark)
    made = grammar(None, Toolbox(tools=(tool,), callable=(tool,), required=True, parallel=False), LLAMA)
    assert made is not None
    return made


def reference(number: int) -> dict[str, Any]:
    return {"$ref": f"#/$defs/a{number}"}


LINKS = {
    "ref": reference,
    "properties": lambda i: {"properties": {"x": reference(i)}},
    "items": lambda i: {"items": reference(i)},
    "prefixItems": lambda i: {"prefixItems": [reference(i)]},
    "additionalItems": lambda i: {"items": [{}], "additionalItems": reference(i)},
    "additionalProperties": lambda i: {"additionalProperties": reference(i)},
    "patternProperties": lambda i: {"patternProperties": {"^x": reference(i)}},
    "anyOf": lambda i: {"anyOf": [{"type": "null"}, reference(i)]},
    "allOf": lambda i: {"allOf": [{"type": "object"}, {"properties": {"x": reference(i)}}]},
    "escaped": lambda i: {"properties": {"x": {"$ref": f"#/%24defs/a{i}"}}},
}


def chain(link: str, length: int) -> dict[str, Any]:
    """A schema in which each of so many definitions refers to the next."""
    definitions = {f"a{i}": LINKS[link](i + 1) for i in range(length)}
    return {"$defs": definitions | {f"a{length}": {"type": "null"}}, "$ref": "#/$defs/a0"}


def identified(key: str, length: int) -> dict[str, Any]:
    """The same by names that are no places in the document."""
    name = (lambda i: f"https://example.com/{i}") if key == "$id" else (lambda i: f"name{i}")
    to = name if key == "$id" else (lambda i: f"#name{i}")
    definitions = {f"a{i}": {key: name(i), "properties": {"x": {"$ref": to(i + 1)}}} for i in range(length)}
    return {"$defs": definitions | {"last": {key: name(length), "type": "null"}}, "$ref": to(0)}


@pytest.mark.parametrize("link", LINKS)
def test_a_long_chain_of_references_is_refused_by_its_part(link: str) -> None:
    schema = chain(link, 1500)
    with pytest.raises(BadRequest, match=r"\(at \$ref\).*nested more than") as caught:
        GRAMMARS.compile(of(schema))
    assert (caught.value.param, caught.value.code) == (SCHEMA_PARAM, "invalid_schema")


def test_a_long_chain_of_parts_that_stay_open_is_refused_too() -> None:
    definitions: dict[str, Any] = {f"a{i}": {"allOf": [reference(i + 1), {}]} for i in range(2000)}
    schema = {"$defs": definitions | {"a2000": {}}, "properties": {}} | reference(0)
    given = grammar(Answer(schema, SCHEMA_PARAM, strict=True), None, None)
    assert given is not None
    with pytest.raises(BadRequest, match=r"too large|nested more than"):
        GRAMMARS.compile(given)


@pytest.mark.parametrize("link", LINKS)
def test_a_chain_within_the_limit_is_kept_to(link: str) -> None:
    length = MAX_NESTING // 5
    assert nesting(chain(link, length))[0] <= MAX_NESTING
    GRAMMARS.compile(of(chain(link, length)))


@pytest.mark.parametrize("key", ["$id", "$anchor"])
def test_a_chain_that_cannot_be_followed_here_costs_a_child_at_most(key: str) -> None:
    with pytest.raises(BadRequest, match="too much time or memory"):
        GRAMMARS.compile(of(identified(key, 1500)))
    GRAMMARS.compile(of({"type": "string", "pattern": "^[a-z]{1,7}$"}))


def test_tools_that_are_nested_too_deeply() -> None:
    parameters = {"type": "object", "properties": {"x": {"$ref": "#/$defs/a0"}, "y": {"type": "integer"}}}
    deep = parameters | {"$defs": chain("properties", 900)["$defs"]}
    with pytest.raises(BadRequest, match=r"\(at properties\.x\.\$ref\).*nested more than") as caught:
        GRAMMARS.compile(of_tool(deep, strict=True))
    assert caught.value.param == "tools[0].function.parameters"
    # What cannot be enforced of a lenient one is left out, and the rest is kept to.
    matcher = GRAMMARS.compile(of_tool(deep))
    for token in encode('{"name": "f", "parameters": {"x": [1], "y": 2}}'):
        matcher.consume(token)
    assert matcher.complete


def test_references_in_circles_are_not_deep() -> None:
    """Sixty types of a document, each of which may hold some of the others."""
    definitions = {
        f"a{i}": {
            "type": "object",
            "properties": {f"p{j}": reference((7 * i + j) % 60) for j in range(4)} | {"text": {"type": "string"}},
        }
        for i in range(60)
    }
    schema = {"$defs": definitions, "$ref": "#/$defs/a0"}
    assert nesting(schema)[0] < MAX_NESTING / 2
    GRAMMARS.compile(of(schema))


def test_the_depth_of_references() -> None:
    assert nesting({"type": "null"}) == (1, [])
    assert nesting({"properties": {"a": {"items": {}}}})[0] == 3
    wide = {"properties": {"a": reference(0), "b": reference(1), "c": {"$ref": "https://example.com"}}}
    wide |= {"$defs": {"a0": {"items": {"items": {}}}, "a1": {"items": reference(0)}}}
    assert nesting(wide) == (2 + 2 + 3, ["properties", "b", "$ref"])
    # In a circle the depths of all add up, whatever order they are followed in.
    circle = {"$defs": {"a0": {"items": reference(1)}, "a1": {"properties": {"a": {"items": reference(0)}}}}}
    assert nesting(circle | reference(0))[0] == 1 + 2 + 3


def crossed(ways: int) -> dict[str, Any]:
    def one(name: str) -> dict[str, Any]:
        return {"type": "object", "properties": {name: {"type": "string"}}}

    return {"allOf": [{"anyOf": [one(f"a{i}"), one(f"b{i}")]} for i in range(ways)]}


SMALL = {
    "patterns at once": {"allOf": [{"type": "string", "pattern": f".*{chr(97 + i % 26)}.{{{i}}}z"} for i in range(30)]},
    "alternatives of alternatives": crossed(40),
    "multiples": {"allOf": [{"type": "integer", "multipleOf": prime} for prime in (99991, 99989, 99971, 99961)]},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_schema_costs_little(name: str) -> None:
    before, started = memory(), time.monotonic()
    with pytest.raises(BadRequest):
        GRAMMARS.compile(of(SMALL[name]))
    assert time.monotonic() - started < 30
    assert memory() - before < 100


def test_a_small_grammar_of_a_custom_tool_costs_a_child_at_most() -> None:
    before, started = memory(), time.process_time()
    given = of_custom_tool("start: A\nA: /" + r"\p{L}?" * 2500 + "x/")
    assert GRAMMARS.compile_quickly(given) is None
    with pytest.raises(BadRequest, match="too much time or memory") as caught:
        GRAMMARS.compile(given)
    assert caught.value.param == "tools[0].custom.format"
    assert time.process_time() - started < 0.5
    assert memory() - before < 50


@pytest.mark.parametrize(
    "lark", ['start: a{1,99999}\na: b{1,99999}\nb: "a" | "a"', 'start: a\na: a a | a a a | "a" | ']
)
def test_a_reply_whose_tokens_take_longer_and_longer_fails(lark: str) -> None:
    matcher, row = GRAMMARS.compile(of_custom_tool(lark)), torch.zeros(GRAMMARS.words, dtype=torch.int32)

    def write(text: str) -> None:
        for token in encode(text):
            matcher.fill(row)
            matcher.consume(token)

    started = time.thread_time()
    with pytest.raises(GrammarFailed, match="too long"):
        write('{"name": "f", "input":\n' + 250 * "a")
    assert time.thread_time() - started < 10


def memory() -> float:
    """Megabytes that this process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


@pytest.mark.parametrize("broken", [{"items": 1}, {"type": "string", "pattern": "("}, {"$ref": "#/none"}])
@pytest.mark.parametrize("strict", [True, False])
def test_many_parts_that_cannot_be_enforced_are_compiled_once(broken: dict[str, Any], strict: bool) -> None:
    properties = {f"p{i}": {"type": "integer"} for i in range(420)} | {f"q{i}": broken for i in range(40)}
    given = of_tool({"type": "object", "properties": properties}, strict=strict)
    started = time.process_time(), time.monotonic()
    with pytest.raises(BadRequest) as caught:
        GRAMMARS.compile(given)
    assert time.process_time() - started[0] < 1
    taken = time.monotonic() - started[1]
    assert taken < 60
    assert caught.value.param == "tools[0].function.parameters"
    # Remembered: nobody asks a child again.
    started = time.process_time(), time.monotonic()
    with pytest.raises(BadRequest) as again:
        GRAMMARS.compile(given)
    assert time.monotonic() - started[1] < taken / 2
    assert again.value.message == caught.value.message


def test_thirty_parts_that_cannot_be_enforced_are_left_out_in_reasonable_time() -> None:
    properties: dict[str, Any] = {f"p{i}": {"type": "integer"} for i in range(420)}
    properties |= {f"q{i}": {"type": "string", "pattern": f"(?={i})"} for i in range(30)}
    started = time.monotonic()
    matcher = GRAMMARS.compile(of_tool({"type": "object", "properties": properties, "required": ["p0"]}))
    assert time.monotonic() - started < 60
    *begin, wrong = encode('{"name": "f", "parameters": {"p0": "')
    for token in begin:
        matcher.consume(token)
    with pytest.raises(GrammarFailed):
        matcher.consume(wrong)


def test_long_chains_of_references_that_end_are_seen_to_end_in_linear_time() -> None:
    """In an order in which one look at each finds a single one more."""
    schema = {"$defs": {f"a{i}": reference(i - 1) if i else {"type": "null"} for i in range(4000)}} | reference(3999)
    started = time.process_time()
    with pytest.raises(BadRequest, match="nested more than"):
        GRAMMARS.compile(of(schema))
    assert time.process_time() - started < 5


def test_leaving_ends_the_compiling() -> None:
    started = time.monotonic()

    def check() -> None:
        if time.monotonic() - started > 0.1:
            raise KeyError

    with pytest.raises(KeyError):
        GRAMMARS.compile(of(SMALL["patterns at once"] | {"title": "of somebody who leaves"}), check=check)


def test_a_child_that_dies_fails_its_grammar_alone() -> None:
    given = of({"type": "string", "pattern": "^[a-z]{1,6}$"})

    def kill() -> None:
        for child in GRAMMARS._children._busy:
            os.kill(child.pid, signal.SIGKILL)

    GRAMMARS._children.start()
    with GRAMMARS._children.child() as child:
        os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(BadRequest, match="too much time or memory"):
        GRAMMARS.compile(given, check=kill)
    # Nor is it held against the schema: something else may have ended the child.
    GRAMMARS.compile(given)


def test_a_child_stands_back_behind_the_server() -> None:
    with GRAMMARS._children.child() as child:
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def test_where_no_child_can_be_started_it_is_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process.sys, "executable", "/no/such/python")  # type: ignore[attr-defined]
    monkeypatch.setattr(GRAMMARS, "_children", child_process.ChildPool("ark_backends.kit.grammar_worker", idle=1))
    with pytest.raises(Unavailable):
        GRAMMARS.compile(of({"type": "string", "pattern": "^[a-z]{1,4}$"}))
    GRAMMARS.compile(of({"type": "object"}))


def test_what_is_remembered_is_its_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the time of a request would tell whether somebody else has sent the same schema."""
    asked = 0
    plain = GRAMMARS._try_out

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return plain(*arguments)

    monkeypatch.setattr(GRAMMARS, "_try_out", counted)
    given = of({"type": "string", "pattern": "^[a-z]{1,3}$"})
    for owner in ("alice", "alice", "bob", "bob"):
        GRAMMARS.compile(given, owner=owner)
    assert asked == 2


def test_matchers_are_used_and_freed_on_threads_with_little_stack() -> None:
    """Those of engines have what the system gives, and on some systems that is not much."""
    matcher = GRAMMARS.compile(of(chain("properties", 150)))
    problems: list[BaseException] = []

    def use() -> None:
        nonlocal matcher
        try:
            other = matcher.fork()
            for token in encode('{"x":{"x":{"x":{'):
                other.consume(token)
            del other, matcher
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    before = threading.stack_size(128 * 1024)
    try:
        thread = threading.Thread(target=use)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert not problems


@pytest.mark.parametrize(
    ("schema", "simple"),
    [
        ({"type": "object"}, True),
        (
            {"type": "object", "properties": {"a": {"type": ["string", "null"], "maxLength": 9}}, "required": ["a"]},
            True,
        ),
        ({"type": "array", "items": {"anyOf": [{"enum": [1, "b"], "type": "string"}, {"$ref": "#"}]}}, True),
        ({"$defs": {"a": {"const": 1}}, "title": "t", "$ref": "#/$defs/a"}, True),
        ({"type": "number", "minimum": 0.5, "exclusiveMaximum": 10}, True),
        ({"type": "string", "format": "uuid", "description": "words"}, True),
        ({"additionalProperties": False}, True),
        ({"type": "string", "pattern": "a"}, False),
        ({"type": "string", "format": "regex"}, False),
        ({"type": "integer", "multipleOf": 2}, False),
        ({"allOf": [{"type": "string"}]}, False),
        ({"anyOf": [{"type": "string"}], "properties": {}}, False),
        ({"$ref": "#/$defs/a", "anyOf": [{}], "$defs": {"a": {}}}, False),
        ({"enum": [1], "minimum": 2}, False),
        ({"$id": "https://example.com", "type": "string"}, False),
        ({"$ref": "#name"}, False),
        ({"$ref": "#/$defs/a%62", "$defs": {"ab": {}}}, False),
        ({"type": "array", "items": [{}]}, False),
        ({"type": "string", "minLength": 10**6}, False),
        ({"minLength": True}, False),
        ({"properties": {"a": 1}}, False),
        ({"$ref": "#"}, False),
        (chain("properties", 90), False),
    ],
)
def test_what_is_simple(schema: dict[str, Any], simple: bool) -> None:
    assert is_simple(schema) is simple
