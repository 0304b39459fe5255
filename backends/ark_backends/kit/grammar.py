"""Grammars: what a reply may go on with, as masks over the vocabulary, by llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from ark.engines.chat import Grammar
from ark.errors import APIError, BadRequest
from ark_backends.kit.schema_limits import beyond_limits
from ark_backends.kit.schema_references import exclusive, parts

MAX_LENGTH = 200_000
"""Characters of a grammar with its schemas. Compiling takes time that grows with the square of some of them."""


LIMITS = LLParserLimits(max_items_in_row=50_000, step_max_items=500_000)
"""What llguidance may keep and follow at once. Alternatives with the same keys add up in the middle of a reply, to more
than its 2,000 where each has optional properties, but to no more than a schema of `MAX_LENGTH` has parts."""

MAX_LEFT_OUT = 32
"""Parts of a tool's schema that may be left out because they cannot be enforced."""


class GrammarFailed(APIError):
    """500: a grammar that was accepted got beyond what can be followed, in the middle of a reply."""

    code = "grammar_failed"


class Matcher:
    """Where one reply is in its grammar. Used by one thread at a time."""

    def __init__(self, inner: LLMatcher, ends: frozenset[int], words: int) -> None:
        self._inner = inner
        self._ends = ends
        self.words = words
        """Length of a mask's row."""

    @property
    def complete(self) -> bool:
        """Nothing can follow any more but the end of the turn."""
        return bool(self._inner.is_stopped())

    def fork(self) -> Matcher:
        """A matcher at the same place, for another reply to the same prompt."""
        return Matcher(self._inner.deep_copy(), self._ends, self.words)

    def consume(self, token: int) -> None:
        """Go on by a token that the mask allowed. Raises GrammarFailed."""
        if token in self._ends:
            return
        if not self._inner.consume_token(token):
            raise GrammarFailed("The reply could not be held to its grammar.")

    def fill(self, row: torch.Tensor) -> None:
        """Write the mask of the next token into a row of int32, a bit for each id. Raises GrammarFailed."""
        self._inner.unsafe_compute_mask_ptr(row.data_ptr(), row.numel() * row.element_size())
        if self._inner.is_error():
            raise GrammarFailed("The grammar is too complex to go on with.")


class Grammars:
    """Compiles grammars for one tokenizer. Safe to call from any thread."""

    def __init__(self, tokens: Sequence[bytes], *, hidden: Collection[int], ends: Collection[int]) -> None:
        """`tokens` are the bytes of each id. `hidden` ids have no text: no grammar ever allows them, except the
        `ends`, which end a turn, where the grammar is complete."""
        # An id without bytes would match anywhere. A model without an end gets one beyond its vocabulary.
        self._ends = frozenset(ends) or frozenset({len(tokens)})
        tokens = [*tokens, *[b""] * (max(self._ends) + 1 - len(tokens))]
        special = sorted({*hidden, *self._ends, *(i for i, token in enumerate(tokens) if not token)})
        wrapper = TokenizerWrapper(_Vocabulary(tokens, special, min(self._ends)))
        self._tokenizer = LLTokenizer(wrapper, eos_token=sorted(self._ends))
        self.words = (int(self._tokenizer.vocab_size) + 31) // 32
        """Length of a mask's row."""

    def compile(self, grammar: Grammar) -> Matcher:
        """A matcher at the beginning; takes milliseconds, for a large schema much more.

        Parts of a lenient schema that cannot be enforced are left out. Raises BadRequest that names the schema and the
        part of it that cannot be honoured.
        """
        if len(grammar.lark) > MAX_LENGTH:
            raise BadRequest(
                f"The schemas are too large: {len(grammar.lark)} characters, at most {MAX_LENGTH}.",
                param=grammar.schemas[0][0] if grammar.schemas else None,
                code="invalid_schema",
            )
        try:
            grammar = _within_limits(grammar)
        except RecursionError as error:
            raise BadRequest("A schema is nested too deeply.", code="invalid_schema") from error
        inner = LLMatcher(self._tokenizer, grammar.lark, log_level=0, limits=LIMITS)
        if not inner.is_error():
            return Matcher(inner, self._ends, self.words)
        lark = grammar.lark
        for param, schema in grammar.schemas:
            reason = self._reason(schema)
            if reason is None:
                continue
            looser = self._looser(schema)
            if looser is None:
                raise _refusal(param, self._locate(json.loads(schema), reason), reason)
            lark = lark.replace(f"%json {schema}\n", f"%json {looser}\n")
        if lark != grammar.lark:
            inner = LLMatcher(self._tokenizer, lark, log_level=0, limits=LIMITS)
            if not inner.is_error():
                return Matcher(inner, self._ends, self.words)
        raise BadRequest(f"The reply's format cannot be enforced: {_short(inner.get_error())}.", code="invalid_schema")

    def _reason(self, schema: str) -> str | None:
        """Why a schema alone cannot be honoured; None when it can."""
        error, messages = LLMatcher.validate_grammar_with_warnings(f"start: %json {schema}", self._tokenizer)
        return _short(messages[0]) if error else None

    def _locate(self, whole: dict[str, Any], reason: str) -> list[str]:
        """The path to the innermost part that fails for this reason by itself, with the definitions it may refer to."""
        shared = {key: whole[key] for key in ("$defs", "definitions", "x-guidance") if key in whole}

        def inside(schema: dict[str, Any]) -> list[str]:
            for path, part in parts(schema):
                if isinstance(part, dict) and self._reason(json.dumps(shared | part)) == reason:
                    return path + inside(part)
            return []

        return inside(whole)

    def _looser(self, schema: str) -> str | None:
        """A lenient schema that keeps only the type of the parts that cannot be enforced; None where it is strict or at
        fault as a whole."""
        whole = json.loads(schema)
        if not _is_lenient(whole):
            return None
        for _ in range(MAX_LEFT_OUT):
            reason = self._reason(json.dumps(whole))
            if reason is None:
                return json.dumps(whole)
            path = self._locate(whole, reason)
            if not path:
                return None
            _leave_out(whole, path)
            if self._reason(json.dumps(_at(whole, path))) is not None:
                _leave_out(whole, path, type_too=True)
        return None


def fill_masks(matchers: Sequence[Matcher | None]) -> tuple[torch.Tensor, list[int]] | None:
    """A mask for each matcher, as int32 (rows, words), and the rows whose grammar failed; None where there is none.

    Call it when the model's pass has been started: on a GPU the two run side by side. A mask takes a few microseconds,
    so a thread for them would cost more than it saves.
    """
    if not any(matchers):
        return None
    words = max(matcher.words for matcher in matchers if matcher is not None)
    bits = torch.full((len(matchers), words), -1, dtype=torch.int32)
    failed = []
    for row, matcher in enumerate(matchers):
        if matcher is not None:
            try:
                matcher.fill(bits[row])
            except GrammarFailed:
                failed.append(row)
    return bits, failed


def apply_masks(logits: torch.Tensor, bits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Logits (rows, vocabulary) with minus infinity where the bits (rows, words) of these rows forbid an id.

    Ids beyond the masks, which pad a model's vocabulary, are forbidden in these rows as well.
    """
    if len(rows) == logits.shape[0]:
        return logits.masked_fill(_forbidden(bits, logits), float("-inf"))
    masked = logits.clone()
    place = torch.tensor(rows, dtype=torch.long, device=logits.device)
    bound = logits[place]
    masked[place] = bound.masked_fill(_forbidden(bits[torch.tensor(rows, dtype=torch.long)], bound), float("-inf"))
    return masked


def _forbidden(bits: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Bits that allow an id, as a mask of those that are not allowed, of the logits' shape and device."""
    width = logits.shape[1]
    octets = (~bits).view(torch.uint8)
    if logits.device.type == "cpu":
        # One pass over bytes, where torch needs one for each operation.
        forbidden = torch.from_numpy(np.unpackbits(octets.numpy(), axis=1, bitorder="little")).view(torch.bool)
    else:
        places = torch.arange(8, device=logits.device, dtype=torch.uint8)
        forbidden = ((octets.to(logits.device)[:, :, None] >> places) & 1).flatten(1).bool()
    if forbidden.shape[1] < width:
        return torch.nn.functional.pad(forbidden, (0, width - forbidden.shape[1]), value=True)
    return forbidden[:, :width]


class _Vocabulary:
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


def _within_limits(grammar: Grammar) -> Grammar:
    """The grammar with lenient schemas that keep only the type of parts over a limit. Raises BadRequest for others."""
    lark, schemas = grammar.lark, []
    for param, schema in grammar.schemas:
        whole = json.loads(schema)
        _drop_hints(whole)
        if exclusive(whole):
            # llguidance sees by itself that alternatives exclude each other, but not where they are recursive.
            whole["x-guidance"] = whole.get("x-guidance", {}) | {"coerce_one_of": True}
        for _ in range(MAX_LEFT_OUT + 1):
            found = beyond_limits(whole)
            if found is None:
                break
            path, reason = found
            # The last steps are keywords of the part that is at fault.
            part = path[: -2 if path[-2:-1] == ["patternProperties"] else -1]
            if not part or not _is_lenient(whole):
                raise _refusal(param, path, reason)
            _leave_out(whole, part)
        else:
            raise _refusal(param, path, reason)
        kept = json.dumps(whole)
        lark = lark.replace(f"%json {schema}\n", f"%json {kept}\n")
        schemas.append((param, kept))
    return Grammar(lark=lark, schemas=tuple(schemas))


def _drop_hints(schema: dict[str, Any]) -> None:
    """Leave out OpenAPI's `discriminator`, which only says where to look and which llguidance takes for a limit."""
    if isinstance(hint := schema.get("discriminator"), dict) and "propertyName" in hint:
        del schema["discriminator"]
    for _, part in parts(schema):
        if isinstance(part, dict):
            _drop_hints(part)


def _refusal(param: str, path: list[str], reason: str) -> BadRequest:
    where = f" (at {'.'.join(path)})" if path else ""
    message = f"Invalid '{param}'{where}: this schema cannot be enforced: {reason}."
    return BadRequest(message, param=param, code="invalid_schema")


def _is_lenient(whole: dict[str, Any]) -> bool:
    return bool(whole.get("x-guidance", {}).get("lenient"))


def _at(place: Any, path: Sequence[str]) -> Any:
    for step in path:
        place = place[int(step) if isinstance(place, list) else step]
    return place


def _leave_out(whole: dict[str, Any], path: Sequence[str], *, type_too: bool = False) -> None:
    """Reduce the part of a schema at a path to its type, or to nothing."""
    part: dict[str, Any] = _at(whole, path)
    kept = {} if type_too else {key: value for key, value in part.items() if key == "type"}
    part.clear()
    part.update(kept)


_POSITION = re.compile(r"at \d+\(\d+\): (failed to compile JSON schema: )?")


def _short(error: str) -> str:
    """llguidance's reason without the place in a grammar that the client has not written."""
    text = _POSITION.sub("", error.strip())
    text = re.split(r"\n +\d+ \|| Enable '", text)[0]  # neither its place nor an option of llguidance's helps a client
    return " ".join(text.split()).rstrip(".")[:300]
