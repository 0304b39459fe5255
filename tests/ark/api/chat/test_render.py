"""Chunks of a stream."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ark.api.chat.render import ChunkRenderer, Head
from ark.api.chat.schema import ChoiceDelta, ChunkChoice
from ark.chat.output.processor import Delta


@pytest.mark.parametrize("include_usage", [False, True])
@given(text=st.text(min_size=1), model=st.text(max_size=9))
@example(text='<"\\\n\u2028', model='"content":"')
def test_a_chunk_of_text_is_what_the_types_say(include_usage: bool, text: str, model: str) -> None:
    """It is written without them."""
    renderer = ChunkRenderer(Head(model=model), include_usage=include_usage)
    expected = renderer._event(ChunkChoice(index=0, delta=ChoiceDelta(content=text)))
    assert renderer.delta(Delta(content=text)) == expected
