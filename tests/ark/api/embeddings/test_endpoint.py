"""POST /embeddings, with a backend that counts words."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ECHO, JSON_HEADER, Response, backend_of, is_request_id, running
from embeddings_api import WORDS, embed, words
from hash_embeddings import VOCABULARY, encode

from ark.api.embeddings import openai_ids

pytestmark = pytest.mark.anyio

KEY = "secret"
SIZE = 512


def vectors(reply: Response) -> list[list[float]]:
    assert reply.status == 200, reply.text
    return [one["embedding"] for one in reply.json()["data"]]


async def test_a_whole_reply() -> None:
    async with running(models=words()) as client:
        reply = await embed(client, ["hello world", "hello"])
    body = reply.json()
    assert set(body) == {"object", "data", "model", "usage"}
    assert (body["object"], body["model"]) == ("list", "words")
    assert body["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for index, one in enumerate(body["data"]):
        assert set(one) == {"object", "index", "embedding"}
        assert (one["object"], one["index"], len(one["embedding"])) == ("embedding", index, SIZE)
    first, second = vectors(reply)
    assert sorted(first)[-2:] == pytest.approx([0.5**0.5] * 2)
    assert max(second) == 1
    assert is_request_id(reply.headers["x-request-id"])


async def test_the_four_forms_of_input_are_the_same_text() -> None:
    async with running(models=words()) as client:
        ids = encode("hello world")
        forms = [await embed(client, form) for form in ("hello world", ["hello world"], ids, [ids])]
    assert len({json.dumps(vectors(form)) for form in forms}) == 1
    assert {form.json()["usage"]["prompt_tokens"] for form in forms} == {2}


async def test_base64_is_the_same_vector() -> None:
    async with running(models=words()) as client:
        floats = await embed(client, ["hello world", "a"])
        default = await embed(client, ["hello world", "a"], encoding_format=None)
        encoded = await embed(client, ["hello world", "a"], encoding_format="base64")
    assert floats.body == default.body
    decoded = [struct.unpack(f"<{SIZE}f", base64.b64decode(one, validate=True)) for one in vectors(encoded)]
    assert [list(one) for one in decoded] == vectors(floats)


async def test_an_alias_is_the_model_of_the_reply_and_no_body_names_the_route() -> None:
    async with running(models=words()) as client:
        for name in ("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"):
            assert (await embed(client, model=name)).json()["model"] == name
        bare = await client.request("POST", "/embeddings", json={"model": "words", "input": "a"})
        get = await client.get("/v1/embeddings")
    assert bare.status == 200
    assert (get.status, get.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(("name", "status", "code"), [("gone", 404, "model_not_found"), ("x" * 9999, 404, None)])
async def test_an_unknown_model(name: str, status: int, code: str | None) -> None:
    async with running(models=words()) as client:
        reply = await embed(client, model=name)
    assert (reply.status, reply.error["param"]) == (status, "model")
    assert code in (None, reply.error["code"])
    assert "There is: words, text-embedding-ada-002" in reply.error["message"]
    assert len(reply.body) < 1000


async def test_a_model_of_another_task() -> None:
    async with running(models=[ECHO, WORDS]) as client:
        chat_model = await embed(client, model="gpt-4o")
        embedding_model = await client.chat(model="text-embedding-ada-002")
    for reply in (chat_model, embedding_model):
        assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "model", "model_not_supported")
    assert "does chat, not embedding" in chat_model.error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "a"}, "model"),
        ({"model": "words"}, "input"),
        ({"model": "words", "input": []}, "input"),
        ({"model": "words", "input": ["a", ""]}, "input[1]"),
        ({"model": "words", "input": ["a", 1]}, "input[1]"),
        ({"model": "words", "input": ["a"] * 2049}, "input"),
        ({"model": "words", "input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"model": "words", "input": "a", "dimensions": 0}, "dimensions"),
    ],
)
async def test_what_is_refused_at_the_door(body: dict[str, Any], param: str) -> None:
    async with running(models=words()) as client:
        reply = await client.request("POST", "/v1/embeddings", json=body)
        jobs = backend_of(client).jobs
    assert (reply.status, reply.error["param"]) == (400, param)
    assert not jobs


@pytest.mark.parametrize("text", ["\\ud800", "\xff", "\x00"])
async def test_what_is_not_json(text: str) -> None:
    body = b'{"model": "words", "input": "' + text.encode("latin-1") + b'"}'
    async with running(models=words()) as client:
        reply = await client.request("POST", "/v1/embeddings", body=body)
        escaped = await embed(client, "a\0b")
    assert (reply.status, reply.error["code"]) == (400, "invalid_json")
    assert escaped.status == 200


async def test_another_content_type() -> None:
    async with running(models=words()) as client:
        reply = await embed(client, headers=[("content-type", "text/plain")])
        same = await embed(client, headers=[JSON_HEADER])
    assert (reply.status, same.status) == (415, 200)


async def test_2048_inputs_in_their_order() -> None:
    texts = [f"text number {number}" for number in range(2048)]
    async with running(models=words()) as client:
        reply = await embed(client, texts, encoding_format="base64")
        last = await embed(client, texts[-1], encoding_format="base64")
    assert [one["index"] for one in reply.json()["data"]] == list(range(2048))
    assert vectors(reply)[-1:] == vectors(last)
    assert reply.json()["usage"]["prompt_tokens"] == 3 * 2048


async def test_dimensions_are_those_that_the_model_declares() -> None:
    async with running(models=words(dimensions=[256, 64])) as client:
        sizes = {size: await embed(client, dimensions=size) for size in (None, 512, 256, 64)}
        bad = [await embed(client, dimensions=size) for size in (1, 63, 511, 513, 1536)]
        listed = (await client.get("/v1/models/words")).json()["ark"]
    assert {size: len(vectors(reply)[0]) for size, reply in sizes.items()} == {None: 512, 512: 512, 256: 256, 64: 64}
    for reply in bad:
        assert (reply.status, reply.error["param"], reply.error["code"]) == (400, "dimensions", "invalid_value")
        assert "512, 256, 64" in reply.error["message"]
    assert listed["dimensions"] == [512, 256, 64]


async def test_a_model_that_declares_none_has_its_own_size_only() -> None:
    async with running(models=words()) as client:
        own = await embed(client, dimensions=SIZE)
        other = await embed(client, dimensions=256)
    assert own.status == 200
    assert "vectors of 512 numbers, not 256" in other.error["message"]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("a b c d e", "input"),
        (["a", "b", "c", "a b c d e"], "input[3]"),
        ([1, 2, 3, 4, 5], "input"),
        ([[1], [1, 2, 3, 4, 5]], "input[1]"),
    ],
)
async def test_a_text_over_the_models_length(given: Any, param: str) -> None:
    async with running(models=words(context_length=4)) as client:
        over = await embed(client, given)
        no = await embed(client, given, ark_truncate=False)
        cut = await embed(client, given, ark_truncate=True)
        fits = await embed(client, "a b c d")
    for reply in (over, no):
        assert (reply.status, reply.error["code"], reply.error["param"]) == (400, "context_length_exceeded", param)
        assert f"'{param}'" in reply.error["message"]
    assert fits.json()["usage"]["prompt_tokens"] == 4
    lengths = [5] if param == "input" else [1] * (len(given) - 1) + [5]
    assert cut.json()["usage"]["total_tokens"] == sum(min(4, length) for length in lengths)
    if given == "a b c d e":
        assert vectors(cut) == vectors(fits)


@pytest.mark.parametrize(
    ("given", "param"), [([1, VOCABULARY], "input[1]"), ([[1], [2], [3], [1, 2, VOCABULARY]], "input[3][2]")]
)
async def test_an_id_that_the_model_does_not_have(given: Any, param: str) -> None:
    async with running(models=words()) as client:
        reply = await embed(client, given)
    assert (reply.status, reply.error["param"]) == (400, param)
    assert f"'{param}'" in reply.error["message"]


async def test_sparse_and_colbert_vectors() -> None:
    async with running(models=words(engine={"colbert": True})) as client:
        plain = await embed(client, ["hello world hello"])
        both = await embed(client, ["hello world hello"], ark_sparse=True, ark_colbert=True)
        encoded = await embed(client, ["hello world hello"], ark_colbert=True, encoding_format="base64")
        listed = (await client.get("/v1/models/words")).json()["ark"]["parameters"]
    (one,) = both.json()["data"]
    hello, world = encode("hello world")
    assert one["ark_sparse"] == pytest.approx({str(hello): 2 / 3, str(world): 1 / 3})
    assert one["ark_colbert"] == [[1.0, 0.0], [1.0, 0.5]]
    assert [one["embedding"]] == vectors(plain)
    (one,) = encoded.json()["data"]
    assert "ark_sparse" not in one
    assert [struct.unpack("<2f", base64.b64decode(row)) for row in one["ark_colbert"]] == [(1.0, 0.0), (1.0, 0.5)]
    assert listed == ["ark_colbert", "ark_sparse", "ark_truncate", "dimensions", "encoding_format"]


async def test_what_the_model_does_not_have_is_refused() -> None:
    async with running(models=words()) as client:
        refused = await embed(client, ark_colbert=True)
        neutral = await embed(client, ark_colbert=False, ark_sparse=False, user="someone")
        has = await embed(client, ark_sparse=True)
    assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")
    assert refused.error["param"] == "ark_colbert"
    assert (neutral.status, has.status) == (200, 200)
    assert "x-ark-ignored" not in neutral.headers


async def test_what_the_model_does_not_have_is_ignored_where_the_operator_says_so() -> None:
    async with running(models=words(), server={"unsupported_parameters": "ignore"}) as client:
        reply = await embed(client, ark_colbert=True, ark_sparse=True)
        size = await embed(client, dimensions=3)
        (job,) = backend_of(client).jobs
    assert reply.headers["x-ark-ignored"] == "ark_colbert"
    assert (job.sparse, job.colbert) == (True, False)
    assert "ark_colbert" not in reply.json()["data"][0]
    # A vector of another size than asked for would spoil what it is stored in.
    assert (size.status, size.error["param"]) == (400, "dimensions")


async def test_openais_token_ids_are_decoded_under_openais_names_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"".join(base64.b64encode(bytes([byte])) + b" %d\n" % byte for byte in range(256))
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(openai_ids, "SHA256", hashlib.sha256(table).hexdigest())
    ids = list(b"hello")
    async with running(models=words(aliases=["mine"])) as client:
        before = await embed(client, [ids], model="text-embedding-3-small")
        openai_ids.table_path().write_bytes(table)
        text = await embed(client, "hello")
        under_openais = await embed(client, [ids], model="text-embedding-3-small")
        single = await embed(client, [*ids, 256], model="text-embedding-3-small")
        under_its_own = await embed(client, [ids])
        under_an_alias = await embed(client, [ids], model="mine")
    assert (before.status, before.error["code"]) == (400, "token_ids_not_supported")
    assert "'words'" in before.error["message"]
    assert vectors(under_openais) == vectors(text)
    assert under_openais.json()["usage"]["prompt_tokens"] == 1
    assert (single.status, single.error["param"]) == (400, "input[5]")
    assert vectors(under_its_own) == vectors(under_an_alias) != vectors(text)
    assert under_its_own.json()["usage"]["prompt_tokens"] == 5


async def test_the_job_says_what_was_asked_for() -> None:
    async with running(models=words(dimensions=[64])) as client:
        reply = await embed(client, ["a", "b"], dimensions=64, ark_truncate=True, ark_sparse=True)
        await embed(client, [3, 4])
        first, second = backend_of(client).jobs
    assert (list(first.inputs), first.dimensions) == (["a", "b"], 64)
    assert (first.truncate, first.sparse, first.colbert) == (True, True, False)
    assert first.request_id == reply.headers["x-request-id"]
    assert ([list(one) for one in second.inputs], second.dimensions) == ([[3, 4]], SIZE)
    assert (second.truncate, second.sparse, second.colbert) == (False, False, False)


async def test_keys_and_their_models() -> None:
    sha256 = hashlib.sha256(KEY.encode()).hexdigest()
    keys = [{"name": "chat only", "sha256": sha256, "models": ["echo"]}]
    async with running(models=[ECHO, WORDS], keys=keys) as client:
        none = await embed(client)
        wrong = await embed(client, headers=[("authorization", "Bearer no")])
        forbidden = await embed(client, headers=[("authorization", f"Bearer {KEY}")])
    assert (none.status, wrong.status, forbidden.status) == (401, 401, 404)
    assert forbidden.error["code"] == "model_not_found"
    assert "words" not in forbidden.error["message"].removeprefix("The model 'words'")
