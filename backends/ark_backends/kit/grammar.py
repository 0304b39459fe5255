"""Grammars: what a reply may go on with, as masks over the vocabulary, by llguidance."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import msgspec
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from ark.engines.chat import Grammar
from ark.errors import APIError, BadRequest, Unavailable
from ark_backends.kit import simple_schemas
from ark_backends.kit.child_process import ChildDied, ChildFailedToStart, ChildPool
from ark_backends.kit.grammar_check import LIMITS, Vocabulary, short
from ark_backends.kit.grammar_worker import ACCEPTED, CHECK, Accepted, Refusal, Request
from ark_backends.kit.grammar_worker import STACK as WORKER_STACK
from ark_backends.kit.threads import run_on_own_thread

if TYPE_CHECKING:
    import torch

log = logging.getLogger("ark.engine")

MAX_LENGTH = 200_000
"""Characters of a grammar with its schemas. Compiling takes time that grows with the square of some of them."""

STACK = 4 * WORKER_STACK
"""Of the thread that compiles here."""

MAX_REMEMBERED = 512
"""Grammars of which it is remembered what became of them in the child process."""

NICE = 10
"""Grammars that take long are hardly ever honest, and would take the processor from the replies of others."""

QUICK = 0.1
"""Seconds of compiling that nobody else need be kept waiting for."""

SPARE, PACE = 2.0, 0.01
"""Seconds of CPU time that a reply's grammar may take, and for each token besides. Those that people write take less
than a millisecond a token; an ambiguous one takes longer with each, and everybody else's tokens wait meanwhile."""


class GrammarFailed(APIError):
    """500: a grammar that was accepted got beyond what can be followed, in the middle of a reply."""

    code = "grammar_failed"


class Matcher:
    """Where one reply is in its grammar. Used by one thread at a time."""

    def __init__(self, inner: LLMatcher, ends: frozenset[int], words: int, *, spare: float = SPARE) -> None:
        self._inner = inner
        self._spare = spare
        self._ends = ends
        self.words = words
        """Length of a mask's row."""

    @property
    def complete(self) -> bool:
        """Nothing can follow any more but the end of the turn."""
        return bool(self._inner.is_stopped())

    @property
    def may_end(self) -> bool:
        """The reply may end here."""
        return bool(self._inner.is_accepting())

    def fork(self) -> Matcher:
        """A matcher at the same place, for another reply to the same prompt."""
        return Matcher(self._inner.deep_copy(), self._ends, self.words, spare=self._spare)

    def consume(self, token: int) -> None:
        """Go on by a token that the mask allowed. Raises GrammarFailed."""
        if token in self._ends:
            return
        begun = time.thread_time()
        if not self._inner.consume_token(token):
            raise GrammarFailed("The reply could not be held to its grammar.")
        self._spend(time.thread_time() - begun - PACE)

    def fill(self, row: torch.Tensor) -> None:
        """Write the mask of the next token into a row of int32, a bit for each id. Raises GrammarFailed."""
        begun = time.thread_time()
        self._inner.unsafe_compute_mask_ptr(row.data_ptr(), row.numel() * row.element_size())
        if self._inner.is_error():
            raise GrammarFailed("The grammar is too complex to go on with.")
        self._spend(time.thread_time() - begun)

    def _spend(self, seconds: float) -> None:
        self._spare = min(SPARE, self._spare - seconds)
        if self._spare < 0:
            raise GrammarFailed("The grammar takes too long to go on with.")


class Grammars:
    """Compiles grammars for one tokenizer. Safe to call from any thread."""

    def __init__(self, tokens: Sequence[bytes], *, hidden: Collection[int], ends: Collection[int]) -> None:
        """`tokens` are the bytes of each id. `hidden` ids have no text: no grammar ever allows them, except the
        `ends`, which end a turn, where the grammar is complete."""
        # An id without bytes would match anywhere. A model without an end gets one beyond its vocabulary.
        self._ends = frozenset(ends) or frozenset({len(tokens)})
        tokens = [*tokens, *[b""] * (max(self._ends) + 1 - len(tokens))]
        special = sorted({*hidden, *self._ends, *(i for i, token in enumerate(tokens) if not token)})
        wrapper = TokenizerWrapper(Vocabulary(tokens, special, min(self._ends)))
        self._tokenizer = LLTokenizer(wrapper, eos_token=sorted(self._ends))
        self.words = (int(self._tokenizer.vocab_size) + 31) // 32
        """Length of a mask's row."""
        self._lock = threading.Lock()
        self._known: dict[bytes, Accepted | Refusal] = {}
        self._children = ChildPool("ark_backends.kit.grammar_worker", idle=2, nice=NICE)

    def close(self) -> None:
        """End the child processes. What is tried out there is refused, and all that would be."""
        self._children.close()

    def compile_quickly(self, grammar: Grammar, *, owner: str = "") -> Matcher | None:
        """A matcher at the beginning, for a grammar that is known to take milliseconds; None for others."""
        key = _digest(grammar, owner)
        with self._lock:
            known = self._known.get(key)
        if isinstance(known, Accepted) and known.seconds < QUICK:
            return self._compile(known.lark)
        if grammar.written is not None or len(grammar.lark) > simple_schemas.MAX_LENGTH:
            return None
        if not all(simple_schemas.is_simple(json.loads(schema)) for _, schema in grammar.schemas):
            return None
        try:
            return self._compile(grammar.lark)
        except BadRequest:
            # The child can say which part is at fault.
            return None

    def compile(self, grammar: Grammar, *, owner: str = "", check: Callable[[], None] = lambda: None) -> Matcher:
        """A matcher at the beginning; takes milliseconds, and for the worst schemas seconds.

        llguidance is written for schemas that people write: others overflow its stack, or take it minutes and
        gigabytes. Matchers have to live in this process, so a grammar is tried out in a child process first, with
        limits of time, memory and stack, unless it is a simple one. Compiled here it does the same again, with more
        room. What became of it is remembered for its `owner`, so that nobody learns what others ask for.

        Parts of a lenient schema that cannot be enforced are left out. `check` is called ten times a second while the
        child works: what it raises ends it. Raises BadRequest that names the schema and the part of it that cannot be
        honoured, and Unavailable where no child can be started.
        """
        if len(grammar.lark) > MAX_LENGTH:
            raise BadRequest(
                f"The schemas are too large: {len(grammar.lark)} characters, at most {MAX_LENGTH}.",
                param=_param(grammar),
                code="invalid_schema",
            )
        matcher = self.compile_quickly(grammar, owner=owner)
        if matcher is not None:
            return matcher
        key = _digest(grammar, owner)
        with self._lock:
            known = self._known.get(key)
        if known is None:
            known = self._try_out(grammar, check)
            with self._lock:
                self._known[key] = known
                while len(self._known) > MAX_REMEMBERED:
                    del self._known[next(iter(self._known))]
        if isinstance(known, Refusal):
            raise _refused(known)
        return self._compile(known.lark)

    def _compile(self, lark: str) -> Matcher:
        """Raises BadRequest."""

        def compile_it() -> LLMatcher:
            return LLMatcher(self._tokenizer, lark, log_level=0, limits=LIMITS)

        inner = run_on_own_thread(compile_it, stack_size=STACK)
        if inner.is_error():
            raise _refused(Refusal(None, [], short(inner.get_error())))
        return Matcher(inner, self._ends, self.words)

    def _try_out(self, grammar: Grammar, check: Callable[[], None]) -> Accepted | Refusal:
        """What becomes of a grammar in a child process. Raises BadRequest where that ends, and Unavailable."""
        request = msgspec.json.encode(Request(grammar.lark, [*grammar.schemas]))
        try:
            with self._children.child() as child:
                child.send(CHECK, request, check=check)
                kind, payload = child.receive(check=check)
        except ChildFailedToStart as error:
            log.error("grammars cannot be compiled: %s", error)
            raise Unavailable("The reply's format cannot be enforced now.", code="grammar_unavailable") from error
        except ChildDied as error:
            log.warning("a child process died of a grammar: %s", error)
            # Not remembered: the machine may have been short of memory or time for a moment.
            raise _refused(Refusal(_param(grammar), [], "it takes too much time or memory")) from error
        if kind == ACCEPTED:
            return msgspec.json.decode(payload, type=Accepted)
        return msgspec.json.decode(payload, type=Refusal)


def _param(grammar: Grammar) -> str | None:
    return grammar.written or next((param for param, _ in grammar.schemas), None)


def _digest(grammar: Grammar, owner: str) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode((owner, grammar)), digest_size=16).digest()


def _refused(refusal: Refusal) -> BadRequest:
    if refusal.param is None:
        return BadRequest(f"The reply's format cannot be enforced: {refusal.reason}.", code="invalid_schema")
    where = f" (at {'.'.join(refusal.path)})" if refusal.path else ""
    message = f"Invalid '{refusal.param}'{where}: this schema cannot be enforced: {refusal.reason}."
    return BadRequest(message, param=refusal.param, code="invalid_schema")
