"""The seeds of the fuzzers, what they found among them, through the same functions; and random ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from targets import TARGETS

SEEDS = Path(__file__).parent / "seeds"
TOKENS = [b"<think>", b"</think>", b"<tool_call>", b"</tool_call>", b"[TOOL_CALLS]", b"[ARGS]", b"<|python_tag|>",
          b'{"name": "look", "arguments": {', b"<function=look>", b"<parameter=city>", b"</parameter>", b"</function>",
          b"look", b"stop", b'"', b"\\", b"[", b"]", b"{", b"}", b" ", b"\r", b"\n", b";", b"=", b"\xff"]  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_seeds(name: str) -> None:
    seeds = sorted((SEEDS / name).iterdir())
    assert seeds
    for seed in seeds:
        TARGETS[name](seed.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@given(st.binary(max_size=8), st.lists(st.sampled_from(TOKENS) | st.binary(max_size=4), max_size=12))
def test_anything(name: str, head: bytes, parts: list[bytes]) -> None:
    TARGETS[name](head + b"".join(parts))
