"""Reasoning and answer, split by think tags."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ark.chat.output.reasoning import ReasoningSplitter


def run(pieces: list[str], *, opened: bool = False) -> tuple[str, str]:
    splitter = ReasoningSplitter(opened=opened)
    parts = [splitter.push(piece) for piece in pieces]
    parts.append(splitter.flush())
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>why</think>because", "why", "because"),
        ("<think>\nwhy\n\nso\n</think>\n\nbecause\n", "why\n\nso", "because\n"),
        ("\n<think>why</think>because", "why", "because"),
        ("<think></think>because", "", "because"),
        ("<think>\n\n</think>\n\nbecause", "", "because"),
        ("because", "", "because"),
        ("  because", "", "  because"),
        ("because <think>why</think>", "", "because <think>why</think>"),
        ("<think>why</think>a <think>b</think>", "why", "a <think>b</think>"),
        ("<think>why", "why", ""),
        ("<think>a <b> </thin", "a <b> </thin", ""),
        ("<think>why</think>", "why", ""),
        ("<think>why</think> ", "why", ""),
        ("<thin", "", "<thin"),
        ("<thing>", "", "<thing>"),
        ("</think>a", "", "</think>a"),
        ("", "", ""),
        (" ", "", " "),
    ],
)
def test_a_reply_of_a_model_that_writes_both_tags(text: str, reasoning: str, content: str) -> None:
    assert run([text]) == (reasoning, content)
    assert run(list(text)) == (reasoning, content)


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("why</think>because", "why", "because"),
        ("\nwhy\n</think>\n\nbecause", "why", "because"),
        ("why", "why", ""),
        ("</think>because", "", "because"),
        ("why\n", "why", ""),
    ],
)
def test_a_reply_to_a_prompt_that_opened_the_tag(text: str, reasoning: str, content: str) -> None:
    assert run([text], opened=True) == (reasoning, content)
    assert run(list(text), opened=True) == (reasoning, content)


fragments = st.sampled_from(["<think>", "</think>", "<", ">", "/", "think", " ", "\n", "a", "b c", "é", ""])


@given(st.lists(fragments, max_size=12).map("".join), st.lists(st.integers(0, 60), max_size=10), st.booleans())
@example("<think> </think> a", [1, 8, 9], False)
def test_any_pieces_give_what_the_whole_gives(text: str, places: list[int], opened: bool) -> None:
    edges = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    pieces = [text[begin:end] for begin, end in pairwise(edges)]
    assert run(pieces, opened=opened) == run([text], opened=opened)


@given(st.text(max_size=20), st.text(max_size=20))
def test_what_stands_between_and_behind_the_tags(reasoning: str, content: str) -> None:
    assert run([f"<think>{reasoning}</think>{content}"]) == (reasoning.strip(), content.lstrip())


def test_content_is_not_held_back() -> None:
    splitter = ReasoningSplitter()
    assert splitter.push("a") == ("", "a")
    assert splitter.push(" <think>") == ("", " <think>")


def test_reasoning_streams() -> None:
    splitter = ReasoningSplitter()
    assert splitter.push("<think>why ") == ("why", "")
    assert splitter.push("not</th") == (" not", "")
    assert splitter.reasoning
    assert splitter.push("ink>") == ("", "")
    assert not splitter.reasoning
