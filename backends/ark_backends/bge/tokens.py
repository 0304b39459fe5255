"""The rows of token ids of a job's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ark.config import ConfigError
from ark.engines.embedding import EmbeddingJob
from ark.engines.token_budget import CHUNK_SIZE, over_budget
from ark.errors import BadRequest, ContextLengthExceeded
from ark_backends.kit.text import valid_text

Row = list[int]
"""The ids of one input, special ones included."""


class Reader:
    """The tokenizer of a model, with the checks of its inputs. Safe to call from any thread.

    It calls the Rust tokenizer underneath: transformers' own methods set its truncation and padding at every call, and
    threads would share that state.
    """

    def __init__(self, wrapped: Any, *, max_length: int, rows: int, colbert_tokens: int = 0) -> None:
        """`wrapped` is a fast tokenizer of transformers, `rows` the size of the model's embedding table, and
        `colbert_tokens` the number of tokens that may have ColBERT vectors in one job."""
        core = getattr(wrapped, "backend_tokenizer", None)
        if core is None:
            raise ConfigError("the model's tokenizer has no tokenizer.json and cannot be made into a fast one")
        core.no_truncation()
        core.no_padding()
        self._core = core
        self._rows = rows
        known = len(wrapped)
        self._oversized = known > rows
        self.vocab_size = min(known, rows)
        self.max_length = max_length
        self._colbert_tokens = colbert_tokens
        self._prefix, self._suffix = self._specials()
        if max_length <= len(self._prefix) + len(self._suffix):
            raise ConfigError(f"context_length = {max_length} leaves no room beside the model's special tokens")

    def _specials(self) -> tuple[Row, Row]:
        """The special tokens before and after every text."""
        content: Row = self._core.encode("a", add_special_tokens=False).ids
        whole: Row = self._core.encode("a").ids
        for start in range(len(whole) - len(content) + 1):
            if whole[start : start + len(content)] == content:
                return whole[:start], whole[start + len(content) :]
        raise ConfigError("the model's tokenizer does not put its special tokens around a text")

    def is_long(self, job: EmbeddingJob) -> bool:
        """Whether `read` takes long."""
        return sum(map(len, job.inputs)) > CHUNK_SIZE

    def read(self, job: EmbeddingJob, between: Callable[[], object] = bool) -> list[Row]:
        """The rows of a job, in order. Raises BadRequest and ContextLengthExceeded that name the input.

        `between` is called before each piece of the texts; what it raises ends the call.
        """
        texts = [
            self._read_part(valid_text(item), index, job.truncate, between)
            for index, item in enumerate(job.inputs)
            if isinstance(item, str)
        ]
        encoded = self._encode(texts, between)
        rows: list[Row] = []
        for index, item in enumerate(job.inputs):
            row = next(encoded) if isinstance(item, str) else self._around(item, index)
            if self._oversized and max(row, default=0) >= self._rows:
                raise BadRequest(
                    f"input[{index}] has a token that the model has no vector for.", param=f"input[{index}]"
                )
            rows.append(self._fit(row, index, job.truncate))
        self._check_colbert(job, rows)
        return rows

    def _read_part(self, text: str, index: int, truncate: bool, between: Callable[[], object]) -> str:
        """The part of an input that is read: only the beginning of one that is far too long."""
        part = self._beginning(text, self.max_length, between)
        if len(part) < len(text) and not truncate:
            raise self._too_long(index, "far more")
        return part

    def _beginning(self, text: str, budget: int, between: Callable[[], object]) -> str:
        """A text, or of one with far more tokens than `budget` a beginning that has enough."""

        def count(piece: str) -> int:
            between()
            return len(self._core.encode_batch_fast([piece], add_special_tokens=False)[0].ids)

        return text[: over_budget(text, budget, count) or None]

    def _encode(self, texts: Sequence[str], between: Callable[[], object], *, special: bool = True) -> Iterator[Row]:
        """The ids of texts. A text that is alone in its piece is tokenized on this thread."""
        for piece in _pieces(texts):
            between()
            yield from (encoding.ids for encoding in self._core.encode_batch_fast(piece, add_special_tokens=special))

    def _check_colbert(self, job: EmbeddingJob, rows: Sequence[Row]) -> None:
        tokens = sum(map(len, rows)) if job.colbert else 0
        if tokens > self._colbert_tokens:
            raise BadRequest(
                f"The inputs have {tokens} tokens; a request gets ColBERT vectors for {self._colbert_tokens} at most. "
                "Send fewer inputs at once.",
                param="input",
                code="too_many_tokens",
            )

    def _around(self, ids: Sequence[int], index: int) -> Row:
        """The ids of an input, with special tokens added where they are missing."""
        for place, token in enumerate(ids):
            if not 0 <= token < self.vocab_size:
                param = f"input[{index}][{place}]"
                message = f"{param} has the token {token}; this model's are 0 to {self.vocab_size - 1}."
                raise BadRequest(message, param=param, code="invalid_value")
        row = list(ids)
        if row[: len(self._prefix)] != self._prefix:
            row = self._prefix + row
        if self._suffix and row[-len(self._suffix) :] != self._suffix:
            row = row + self._suffix
        return row

    def _fit(self, row: Row, index: int, truncate: bool) -> Row:
        if not row:
            param = f"input[{index}]"
            raise BadRequest(f"{param} has no token that this model reads.", param=param, code="invalid_value")
        if len(row) <= self.max_length:
            return row
        if truncate:
            end = self.max_length - len(self._suffix)
            return row[:end] + self._suffix
        raise self._too_long(index, str(len(row)))

    def _too_long(self, index: int, tokens: str) -> ContextLengthExceeded:
        return ContextLengthExceeded(
            f"This model reads at most {self.max_length} tokens at once; input[{index}] has {tokens}, special ones "
            'included. Shorten it, or send "ark_truncate": true to have its end cut off.',
            param=f"input[{index}]",
        )


def _pieces(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split texts into lists of at most `CHUNK_SIZE` characters, or of one text that has more.

    The tokenizer spreads a list over threads that all jobs share: others wait until it is done.
    """
    start = length = 0
    for index, text in enumerate(texts):
        if length + len(text) > CHUNK_SIZE and index > start:
            yield texts[start:index]
            start, length = index, 0
        length += len(text)
    if texts:
        yield texts[start:]
