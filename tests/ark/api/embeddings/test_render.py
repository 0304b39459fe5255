"""The reply's JSON."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.api.embeddings import render
from ark.engines.embedding import Embedding

FLOATS = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20)


def row(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_the_whole_reply() -> None:
    embeddings = [
        Embedding(dense=row(0.5, -1.0), tokens=3, sparse={7: 0.25, 0: 1.5}, colbert=[row(1.0, 0.0), row(0.0, 1.0)]),
        Embedding(dense=row(0.0, 1.0), tokens=1),
    ]
    assert json.loads(render.reply("m", embeddings, base64=False)) == {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": 0,
                "embedding": [0.5, -1.0],
                "ark_sparse": {"7": 0.25, "0": 1.5},
                "ark_colbert": [[1.0, 0.0], [0.0, 1.0]],
            },
            {"object": "embedding", "index": 1, "embedding": [0.0, 1.0]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }


def test_base64_is_the_bytes_of_float32_in_little_endian_order() -> None:
    reply = json.loads(render.reply("m", [Embedding(dense=row(1.0), tokens=1, colbert=[row(-2.0)])], base64=True))
    (data,) = reply["data"]
    assert base64.b64decode(data["embedding"], validate=True) == b"\x00\x00\x80\x3f"
    assert data["ark_colbert"] == [base64.b64encode(b"\x00\x00\x00\xc0").decode()]


@given(st.lists(FLOATS, max_size=5), st.booleans())
def test_nothing_of_a_vector_is_lost(vectors: list[list[float]], as_base64: bool) -> None:
    reply = json.loads(render.reply("m", [Embedding(dense=row(*one), tokens=1) for one in vectors], base64=as_base64))
    got = [one["embedding"] for one in reply["data"]]
    assert [one["index"] for one in reply["data"]] == list(range(len(vectors)))
    rows = [base64.b64decode(one) if as_base64 else row(*one) for one in got]
    assert rows == [row(*one) for one in vectors]


@pytest.mark.parametrize("name", ["[]", '"', "{}[]", "é", "\0"])
def test_any_name_is_kept(name: str) -> None:
    reply = json.loads(render.reply(name, [Embedding(dense=row(0.5), tokens=1)], base64=False))
    assert (reply["model"], reply["data"][0]["embedding"]) == (name, [0.5])


def test_an_empty_sparse_vector_is_still_there() -> None:
    (data,) = json.loads(render.reply("m", [Embedding(dense=row(1.0), tokens=2, sparse={}, colbert=[])], base64=False))[
        "data"
    ]
    assert (data["ark_sparse"], data["ark_colbert"]) == ({}, [])


def test_the_size_counts_all_vectors() -> None:
    plain = Embedding(dense=row(*[0.0] * 256), tokens=1)
    rich = Embedding(dense=plain.dense, tokens=1, sparse={1: 1.0}, colbert=[plain.dense] * 3)
    assert render.size([plain]) == 1024
    assert render.size([plain, rich]) > 5 * 1024
    assert render.tokens([plain, rich]) == 2
