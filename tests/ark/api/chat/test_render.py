"""Chunks of a stream."""

from __future__ import annotations

import msgspec
import pytest
from asgi_client import running
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ark.api.chat.schema import Chunk

pytestmark = pytest.mark.anyio


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("include_usage", [False, True])
@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), min_size=1, max_size=9))
@example(text='<"\\\u2028\0')
async def test_chunks_are_what_their_type_says(include_usage: bool, text: str) -> None:
    """Those of text are written without it."""
    async with running() as client:
        reply = await client.chat(text, stream=True, stream_options={"include_usage": include_usage})
    *chunks, done = [event.data for event in reply.events]
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in reply.chunks[: len(text) + 1]) == text
    for chunk in chunks:
        assert msgspec.json.encode(msgspec.json.decode(chunk, type=Chunk)).decode() == chunk
