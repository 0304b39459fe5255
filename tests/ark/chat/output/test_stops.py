"""Stop strings in text that comes in pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ark.chat.output.stops import StopMatcher


def run(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    matcher = StopMatcher(stops)
    passed = [matcher.push(piece) for piece in pieces]
    return [*passed, matcher.flush()], matcher.matched


def first_complete(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The rule, in the plainest way: read on until some stop string stands at the end."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[begin:end] for begin, end in pairwise(edges)]


@given(
    st.text("abc", max_size=20),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(0, 30), max_size=8),
)
@example("abcd", ["abcd", "bc"], [1, 2, 3])
@example("aab", ["ab"], [1, 2])
@example("xabab", ["abac", "ab"], [2])
def test_any_pieces_pass_on_the_text_before_the_first_stop_string(
    text: str, stops: list[str], places: list[int]
) -> None:
    pieces = cut(text, places)
    assert "".join(pieces) == text
    passed, matched = run(pieces, stops)
    assert ("".join(passed), matched) == first_complete(text, stops)


@given(st.text("ab", max_size=20), st.text("ab", min_size=1, max_size=5))
def test_nothing_of_a_stop_string_is_passed_on_early(text: str, stop: str) -> None:
    matcher = StopMatcher([stop])
    passed = ""
    for count, letter in enumerate(text, 1):
        passed += matcher.push(letter)
        # Whatever comes next, what was passed on stands before any match.
        for rest in range(len(stop)):
            assert first_complete(text[:count] + stop[rest:], [stop])[0].startswith(passed)


@pytest.mark.parametrize("text", ["", "text", "\n\n"])
def test_without_stop_strings_nothing_is_held_back(text: str) -> None:
    assert run([text], []) == ([text, ""], None)


def test_only_what_may_become_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("One\n") == "One"
    assert matcher.push("two\n\nUs") == "\ntwo"
    assert matcher.push("ed") == "\n\nUsed"
    assert matcher.flush() == ""


def test_what_was_held_back_comes_at_the_end() -> None:
    assert run(["one", " E", "N"], ["END"]) == (["one", " ", "", "EN"], None)


def test_after_a_match_nothing_is_passed_on() -> None:
    assert run(["a.", "b."], ["."]) == (["a", "", ""], ".")


def test_a_stop_string_over_many_pieces() -> None:
    assert run(list("say <|stop|> no"), ["<|stop|>"])[0][:4] == ["s", "a", "y", " "]
    assert "".join(run(list("say <|stop|> no"), ["<|stop|>"])[0]) == "say "
