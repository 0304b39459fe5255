"""What becomes of a request's schemas before a reply is held to them: refused by their part, or loosened.

This runs in `ark_backends.kit.grammar_worker`, a child process, for llguidance's compiler crashes on some schemas and
takes minutes or gigabytes for others.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from ark_backends.kit.schema_limits import beyond_limits
from ark_backends.kit.schema_references import exclusive, parts

LIMITS = LLParserLimits(max_items_in_row=50_000, step_max_items=500_000)
"""What llguidance may keep and follow at once. Alternatives with the same keys add up in the middle of a reply, to more
than its 2,000 where each has optional properties, but to no more than a schema of `MAX_LENGTH` has parts."""

MAX_LEFT_OUT = 32
"""Parts of a tool's schema that may be left out because they cannot be enforced."""

_SHARED = ("$defs", "definitions")

LONGEST_SEARCH = 1.0
"""Seconds that the innermost part at fault is looked for; then the one found so far is named."""


class Refused(Exception):
    """A schema, or the whole where `param` is None, that cannot be kept to."""

    def __init__(self, param: str | None, path: Sequence[str], reason: str) -> None:
        super().__init__(param, path, reason)
        self.param, self.path, self.reason = param, path, reason


class GrammarChecker:
    """Compiles grammars to see whether they can be. Their tokens are bytes: what it costs to compile a grammar depends
    little on the vocabulary."""

    def __init__(self) -> None:
        tokens = [*(bytes([byte]) for byte in range(256)), b""]
        self._tokenizer = LLTokenizer(TokenizerWrapper(Vocabulary(tokens, [256], 256)), eos_token=[256])

    def check(self, lark: str, schemas: Sequence[tuple[str, str]]) -> str:
        """The grammar, with parts of lenient schemas left out that cannot be enforced. Raises Refused."""
        whole = {}
        for param, schema in schemas:
            kept = json.dumps(_within_limits(param, json.loads(schema)))
            lark = _replaced(lark, schema, kept)
            whole[param] = kept
        error = self._error(lark)
        if not error:
            return lark
        for param, schema in whole.items():
            reason = self._reason(schema)
            if reason is not None:
                lark = _replaced(lark, schema, self._loosened(param, schema, reason))
        if error := self._error(lark):
            raise Refused(None, (), short(error))
        return lark

    def _error(self, lark: str) -> str:
        matcher = LLMatcher(self._tokenizer, lark, log_level=0, limits=LIMITS)
        if not matcher.is_error():
            # What a reply begins with: its mask, and a copy for another reply.
            matcher.deep_copy().compute_bitmask()
        return str(matcher.get_error())

    def _reason(self, schema: str) -> str | None:
        """Why a schema alone cannot be honoured; None when it can."""
        error, messages = LLMatcher.validate_grammar_with_warnings(f"start: %json {schema}", self._tokenizer)
        return short(messages[0]) if error else None

    def _loosened(self, param: str, schema: str, reason: str) -> str:
        """A lenient schema that keeps only the type of the parts that cannot be enforced. Raises Refused where it is
        strict, at fault as a whole, or at fault in too many parts."""
        whole, known = json.loads(schema), dict[str, str | None]()
        for _ in range(MAX_LEFT_OUT):
            path = self._locate(whole, reason, known)
            if not path or not _is_lenient(whole):
                raise Refused(param, path, reason)
            part = _at(whole, path)
            _leave_out(part)
            if self._alone(part, whole, known) is not None:
                part.clear()
            if path[0] in _SHARED:
                known.clear()
            loosened = json.dumps(whole)
            following = self._reason(loosened)
            if following is None:
                return loosened
            reason = following
        raise Refused(param, (), reason)

    def _locate(self, whole: dict[str, Any], reason: str, known: dict[str, str | None]) -> list[str]:
        """The path to the innermost part that fails for this reason by itself."""
        end = time.monotonic() + LONGEST_SEARCH
        path: list[str] = []
        part: dict[str, Any] | None = whole
        while part is not None:
            inside, part = parts(part), None
            for inner_path, inner in inside:
                if time.monotonic() > end:
                    break
                if isinstance(inner, dict) and self._alone(inner, whole, known) == reason:
                    path, part = path + inner_path, inner
                    break
        return path

    def _alone(self, part: dict[str, Any], whole: dict[str, Any], known: dict[str, str | None]) -> str | None:
        """Why a part cannot be honoured by itself, with the definitions that it may refer to. What is `known` of
        others is not asked again: parts are compiled once, however many are at fault."""
        key = json.dumps(part)
        if key not in known:
            shared = {key: whole[key] for key in (*_SHARED, "x-guidance") if key in whole}
            known[key] = self._reason(json.dumps(shared | part))
        return known[key]


class Vocabulary:
    """A vocabulary as llguidance's wrapper reads it."""

    def __init__(self, tokens: Sequence[bytes], special: Sequence[int], end: int) -> None:
        # Special ids are known by a name; llguidance keeps it apart from text.
        hidden = set(special)
        self.tokens = [b"<%d>" % i if i in hidden else token for i, token in enumerate(tokens)]
        self.special_token_ids = list(special)
        self.eos_token_id = end
        self.bos_token_id = None
        self._single = {token: i for i, token in enumerate(self.tokens) if len(token) == 1}

    def __call__(self, text: bytes) -> list[int]:
        # Only asked for text that a grammar forces, which ARK lets the model write itself.
        return [self._single[text[i : i + 1]] for i in range(len(text)) if text[i : i + 1] in self._single]


def _replaced(lark: str, schema: str, other: str) -> str:
    return lark.replace(f"%json {schema}\n", f"%json {other}\n")


def _within_limits(param: str, whole: dict[str, Any]) -> dict[str, Any]:
    """A lenient schema without the parts over a limit, of which only the type is left. Raises Refused for others."""
    drop_hints(whole)
    if exclusive(whole):
        # llguidance sees by itself that alternatives exclude each other, but not where they are recursive.
        whole["x-guidance"] = whole.get("x-guidance", {}) | {"coerce_one_of": True}
    for left in range(MAX_LEFT_OUT, -1, -1):
        found = beyond_limits(whole)
        if found is None:
            break
        path, reason = found
        # The last steps are keywords of the part that is at fault.
        place = path[: -2 if path[-2:-1] == ["patternProperties"] else -1]
        if not left or not place or not _is_lenient(whole):
            raise Refused(param, path, reason)
        _leave_out(_at(whole, place))
    return whole


def drop_hints(schema: dict[str, Any]) -> None:
    """Leave out OpenAPI's `discriminator`, which only says where to look and which llguidance takes for a limit."""
    if isinstance(hint := schema.get("discriminator"), dict) and "propertyName" in hint:
        del schema["discriminator"]
    for _, part in parts(schema):
        if isinstance(part, dict):
            drop_hints(part)


def _is_lenient(whole: dict[str, Any]) -> bool:
    return bool(whole.get("x-guidance", {}).get("lenient"))


def _at(place: Any, path: Sequence[str]) -> Any:
    for step in path:
        place = place[int(step) if isinstance(place, list) else step]
    return place


def _leave_out(part: dict[str, Any]) -> None:
    """Reduce a part of a schema to its type."""
    kept = {key: value for key, value in part.items() if key == "type"}
    part.clear()
    part.update(kept)


_POSITION = re.compile(r"at \d+\(\d+\): (failed to compile JSON schema: )?")


def short(error: str) -> str:
    """llguidance's reason without the place in a grammar that the client has not written."""
    text = _POSITION.sub("", error.strip())
    text = re.split(r"\n +\d+ \|| Enable '", text)[0]  # neither its place nor an option of llguidance's helps a client
    return " ".join(text.split()).rstrip(".")[:300]
