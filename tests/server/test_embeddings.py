"""Embeddings of the embedded model, all-MiniLM-L6-v2: OpenAI's client against a real server."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("tiktoken")

import numpy
from fixture_models import only, real_model
from running import Running, serve
from tiny_m3 import save_tiny_m3
from tokenizers import Tokenizer

from ark.app import create_app
from ark.config import Config, ModelConfig

PAGE = Path(__file__).parents[2] / "docs" / "embeddings.md"

OWN_NAME = "all-MiniLM-L6-v2"
NAME = "text-embedding-3-small"
SIZE = 384
LENGTH = 256

LOADING = 300.0
"""Seconds: the machine may have other work."""

TEXTS = [
    "A cat sleeps on the sofa.",
    "short",
    "The kitten naps on the couch. " * 20,
    "Zinsen, Währung und Inflation im Überblick",
    "日本語の文章です。",
    "🙂 \0 \n tabs\tand\r\nlines",
    " ",
    "word " * (LENGTH - 2),
]
ROUNDING = 2e-5
"""What the company of a batch may change of a number."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("embedding")), LOADING) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with connected(server) as made:
        yield made


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    path = real_model("embedding")
    made = Tokenizer.from_file(str(path / "tokenizer.json"))
    made.no_truncation()
    made.no_padding()
    return made


@contextmanager
def connected(server: Running, *, strict: bool = False) -> Iterator[openai.OpenAI]:
    """OpenAI's client. A `strict` one checks replies before it decodes them, and so refuses the base64 that it asks for
    when nobody says otherwise."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=240, _strict_response_validation=strict
    ) as made:
        yield made


def vectors(client: openai.OpenAI, given: Any, **more: Any) -> Any:
    """A row of float32 for each input."""
    reply = client.embeddings.create(**{"model": NAME, "input": given, **more})
    return numpy.array([one.embedding for one in reply.data], dtype=numpy.float32)


def post(server: Running, **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/embeddings", json={"model": NAME, **body}, timeout=240)


def test_like_meanings_are_nearer_than_others(client: openai.OpenAI) -> None:
    groups = [
        ["A cat sleeps on the sofa.", "The kitten naps on the couch."],
        ["The central bank raised interest rates.", "Borrowing money became more expensive."],
        ["How do I bake bread?", "A recipe for a sourdough loaf."],
    ]
    rows = vectors(client, [text for group in groups for text in group])
    likeness = rows @ rows.T
    for first in range(0, 6, 2):
        others = [other for other in range(6) if other // 2 != first // 2]
        for one, two in ((first, first + 1), (first + 1, first)):
            assert likeness[one, two] > likeness[one, others].max() + 0.1


def test_the_shape_of_a_reply(server: Running) -> None:
    with connected(server, strict=True) as client:
        reply = client.embeddings.create(
            model=NAME, input=TEXTS, encoding_format="float", dimensions=SIZE, user="someone"
        )
    assert (reply.object, reply.model) == ("list", NAME)
    assert [(one.object, one.index, len(one.embedding)) for one in reply.data] == [
        ("embedding", index, SIZE) for index in range(len(TEXTS))
    ]
    lengths = numpy.linalg.norm([one.embedding for one in reply.data], axis=1)
    assert numpy.allclose(lengths, 1, atol=1e-5)


def test_base64_is_the_same_vector(client: openai.OpenAI, server: Running) -> None:
    # The client asks for base64 when nobody says otherwise.
    default = vectors(client, TEXTS[0])
    numbers = vectors(client, TEXTS[0], encoding_format="float")
    assert (default == numbers).all()
    raw = post(server, input=TEXTS[0], encoding_format="base64").json()["data"][0]["embedding"]
    assert struct.unpack(f"<{SIZE}f", base64.b64decode(raw, validate=True)) == tuple(numbers[0].tolist())


def test_a_batch_is_the_same_as_one_by_one(client: openai.OpenAI) -> None:
    together = vectors(client, TEXTS * 4)
    alone = numpy.concatenate([vectors(client, text) for text in TEXTS])
    assert abs(together - numpy.tile(alone, (4, 1))).max() < ROUNDING


def test_ids_are_the_same_as_their_text(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    bare = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS[:5]]
    whole = [tokenizer.encode(text).ids for text in TEXTS[:5]]
    texts = vectors(client, TEXTS[:5])
    for ids in (bare, whole):
        assert abs(vectors(client, ids, model=OWN_NAME) - texts).max() < ROUNDING
    assert abs(vectors(client, bare[0], model=OWN_NAME) - texts[:1]).max() < ROUNDING


def test_usage_is_what_the_tokenizer_counts(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    counts = [len(tokenizer.encode(text).ids) for text in TEXTS]
    assert counts[-1] == LENGTH
    for text, count in zip(TEXTS, counts, strict=True):
        usage = client.embeddings.create(model=NAME, input=text).usage
        assert (usage.prompt_tokens, usage.total_tokens) == (count, count)
    assert client.embeddings.create(model=NAME, input=TEXTS).usage.total_tokens == sum(counts)
    ids = tokenizer.encode(TEXTS[0], add_special_tokens=False).ids
    assert client.embeddings.create(model=OWN_NAME, input=ids).usage.total_tokens == counts[0]


def test_a_text_over_the_length_is_refused_or_cut(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    long = "word " * (LENGTH - 1)
    assert len(tokenizer.encode(long).ids) == LENGTH + 1
    for given, param in ((long, "input"), (["a", "b", long], "input[2]")):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(model=NAME, input=given)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", param)
        assert str(LENGTH) in caught.value.message
    reply = client.embeddings.create(model=NAME, input=[long, "a"], extra_body={"ark_truncate": True})
    assert reply.usage.total_tokens == LENGTH + 3
    assert abs(numpy.array(reply.data[0].embedding, numpy.float32) - vectors(client, TEXTS[-1])[0]).max() < ROUNDING


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"dimensions": 256}, "dimensions", "invalid_value"),
        ({"extra_body": {"ark_sparse": True}}, "ark_sparse", "unsupported_parameter"),
        ({"extra_body": {"ark_colbert": True}}, "ark_colbert", "unsupported_parameter"),
        ({"model": OWN_NAME, "input": [[100], [30522]]}, "input[1]", "invalid_value"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
    ],
)
def test_what_is_refused(client: openai.OpenAI, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(**{"model": NAME, "input": "a", **fields})
    assert caught.value.code == code
    # The engine may name the very id.
    assert str(caught.value.param).startswith(param)


def test_openais_ids_are_refused_without_their_table(
    client: openai.OpenAI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=NAME, input=[[9906, 1917]])
    assert caught.value.code == "token_ids_not_supported"
    assert f"'{OWN_NAME}'" in caught.value.message


def test_the_documented_client_finds_that_a_kitten_is_nearer_to_a_cat(server: Running, capsys: Any) -> None:
    program = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    assert "http://127.0.0.1:8000" in program
    names: dict[str, Any] = {}
    exec(program.replace("http://127.0.0.1:8000", server.url), names)
    names["client"].close()
    cat_and_kitten, cat_and_rates = map(float, capsys.readouterr().out.split())
    assert 1 > cat_and_kitten > 0.5 > cat_and_rates


def test_the_three_kinds_of_vectors_of_m3(tmp_path: Path) -> None:
    """By a small random model of its shape, whose tokens are bytes."""
    save_tiny_m3(tmp_path, hidden=32, length=64)
    # 4 bytes for each of 32 numbers of 100 tokens.
    engine = {"colbert_bytes": 4 * 32 * 100}
    model = ModelConfig(name="m3", task="embedding", path=str(tmp_path), dimensions=(16,), engine=engine)
    texts = ["abc", "a" * 62]
    every = {"ark_sparse": True, "ark_colbert": True}
    with serve(create_app(Config(models=(model,))), LOADING) as server, connected(server) as client:
        plain = vectors(client, texts)
        smaller = vectors(client, texts, dimensions=16)
        floats = post(server, input=texts, **every).json()["data"]
        encoded = post(server, input=texts, encoding_format="base64", **every).json()["data"]
        (listed,) = (one.model_extra or {} for one in client.models.list() if one.id == "m3")
        over = post(server, input=[texts[0], "a" * 63])
        many = post(server, input=["a" * 48] * 2, ark_colbert=True)
        too_many = post(server, input=["a" * 48, "a" * 49], ark_colbert=True)
        sparse = post(server, input=["a" * 48] * 9, ark_sparse=True)
    assert {"ark_sparse", "ark_colbert"} <= set(listed["ark"]["parameters"])
    assert (listed["ark"]["context_length"], listed["ark"]["dimensions"]) == (64, [32, 16])
    assert (over.status_code, over.json()["error"]["param"]) == (400, "input[1]")
    assert (many.status_code, too_many.status_code, sparse.status_code) == (200, 400, 200)
    assert too_many.json()["error"]["param"] == "input"
    assert "101 tokens" in too_many.json()["error"]["message"]
    assert abs(numpy.array([one["embedding"] for one in floats]) - plain).max() < ROUNDING
    cut = plain[:, :16] / numpy.linalg.norm(plain[:, :16], axis=1, keepdims=True)
    assert abs(smaller - cut).max() < ROUNDING
    for text, one, packed in zip(texts, floats, encoded, strict=True):
        # The special tokens have no weight, and the first of them no vector.
        assert len(one["ark_sparse"]) <= len(set(text))
        assert all(token.isdigit() and weight > 0 for token, weight in one["ark_sparse"].items())
        rows = numpy.array(one["ark_colbert"])
        assert rows.shape == (len(text) + 1, 32)
        assert numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-5)
        unpacked = [numpy.frombuffer(base64.b64decode(row), "<f4") for row in packed["ark_colbert"]]
        assert abs(numpy.array(unpacked) - rows).max() < ROUNDING
        assert packed["ark_sparse"].keys() == one["ark_sparse"].keys()
    assert any(one["ark_sparse"] for one in floats)


def test_32_clients_at_once(client: openai.OpenAI, server: Running) -> None:
    asked = [[f"{number} is a number", TEXTS[number % len(TEXTS)]] for number in range(32)]
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda texts: vectors(client, texts), asked))
    for texts, answer in zip(asked, answers, strict=True):
        assert abs(vectors(client, texts) - answer).max() < ROUNDING
    status: Any = server.settle()
    assert status.jobs_failed == 0


def test_a_client_that_leaves_cancels_what_waits(server: Running) -> None:
    before: Any = server.settle()
    texts = [f"{number} " + "many words " * 120 for number in range(2048)]
    leaving = send(server.port, texts)
    until(lambda: server.status().running == 1)
    # Another one has its turn meanwhile, and does not wait until this one is through.
    assert post(server, input="another").status_code == 200
    assert server.status().jobs_finished == before.jobs_finished + 1
    leaving.close()
    # Its place is free at once, and the engine hears of it between two batches.
    until(lambda: server.status().jobs_cancelled == before.jobs_cancelled + 1)
    after: Any = server.settle()
    assert after.inputs - before.inputs < len(texts)
    time.sleep(0.2)
    still: Any = server.status()
    assert (still.batches, still.tokens) == (after.batches, after.tokens)


def test_a_full_queue_is_429() -> None:
    path = real_model("embedding")
    model = ModelConfig(name=OWN_NAME, task="embedding", path=str(path), max_queue=1)
    with serve(create_app(Config(models=(model,))), LOADING) as server, connected(server) as client:
        first = send(server.port, ["many words " * 120] * 2048)
        until(lambda: server.status().running == 1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.embeddings.create(model=NAME, input="a")
        assert caught.value.type == "rate_limit_error"
        assert float(caught.value.response.headers["retry-after"]) >= 1
        first.close()
        server.settle()
        assert vectors(client, "a").shape == (1, SIZE)


def send(port: int, texts: list[str]) -> socket.socket:
    """A request that has been sent, and whose reply nobody has read."""
    body = json.dumps({"model": NAME, "input": texts}).encode()
    head = "POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return client


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
