"""Texts that are far too long, known by their beginning."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.engines.token_budget import CHUNK_SIZE, over_budget


def words(text: str) -> int:
    return len(re.findall(r"\w+|\s", text))


def test_as_much_is_read_as_shows_it() -> None:
    read: list[str] = []

    def count(piece: str) -> int:
        read.append(piece)
        return words(piece)

    text = "word " * 3_000_000
    end = over_budget(text, 30_000, count)
    assert words(text[:end]) > 30_000
    assert end <= 3 * CHUNK_SIZE
    *pieces, beginning = read
    assert "".join(pieces).startswith(beginning)
    assert beginning == text[:end]
    assert max(map(len, pieces)) == CHUNK_SIZE


@pytest.mark.parametrize("text", ["", "word", "a " * (CHUNK_SIZE // 2), "word" * CHUNK_SIZE])
def test_a_short_text_and_one_of_few_tokens_are_not(text: str) -> None:
    assert over_budget(text, 10, words) == 0


def test_long_words_that_are_a_token_each_are_counted_whole() -> None:
    """As WordPiece has them: a word of more than 100 letters is one token, and a part of it that is cut off is many."""

    def count(text: str) -> int:
        return sum(1 if len(word) > 100 else len(word) for word in text.split())

    words = ("x" * (CHUNK_SIZE - 100) + " ") * 3
    assert over_budget(words, 256, count) == 0
    assert over_budget(words + "a b " * CHUNK_SIZE, 256, count) > len(words)


def test_a_text_of_few_tokens_that_are_far_too_long_is_not_tokenized_whole() -> None:
    """WordPiece would take a gigabyte to say that a word of 16 MB is one token."""
    longest = 0

    def count(piece: str) -> int:
        nonlocal longest
        longest = max(longest, len(piece))
        return 1

    text = "x" * 16_000_000
    assert over_budget(text, 256, count) == 4 * CHUNK_SIZE
    assert over_budget(text, 100_000, count) == 12_800_000
    assert longest <= CHUNK_SIZE


def test_a_text_that_may_well_fit_is_not_looked_at() -> None:
    assert over_budget("a " * 200_000, 100_000, lambda piece: pytest.fail("it was counted")) == 0


@given(st.lists(st.sampled_from(["a ", "word ", "x" * 1000, " " * 100]), min_size=1), st.integers(10, 200_000))
def test_one_with_no_more_than_there_may_be_never_is(parts: list[str], most: int) -> None:
    text = "".join(parts) * (4 * CHUNK_SIZE // len("".join(parts)))
    end = over_budget(text, most, words)
    assert end == 0 or words(text[:end]) > most
