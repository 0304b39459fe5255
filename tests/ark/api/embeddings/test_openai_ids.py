"""Token ids of OpenAI's tokenizer, with a small table in the place of the real one, in the same format."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ark.api.embeddings import openai_ids
from ark.api.inputs import Inputs, read_inputs
from ark.errors import BadRequest

WORDS = ["he", "ll", "hell", "hello", " w", "or", " wor", " world", "\n\n", "é"]
TOKENS = [bytes([byte]) for byte in range(256)] + [word.encode() for word in WORDS]
TABLE = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(TOKENS))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiktoken's cache, empty."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(openai_ids, "SHA256", hashlib.sha256(TABLE).hexdigest())
    return tmp_path


@pytest.fixture
def table(cache: Path) -> Path:
    path = openai_ids.table_path()
    path.write_bytes(TABLE)
    return path


def decode(inputs: Inputs) -> Inputs:
    return openai_ids.decode(inputs, "text-embedding-ada-002", "small")


def test_ids_become_the_text_they_were_made_from(table: Path) -> None:
    hello = [256 + WORDS.index("hello"), 256 + WORDS.index(" world")]
    assert decode(read_inputs([*hello])) == Inputs(["hello world"], single=True)
    assert decode(read_inputs([hello, [ord("!")], hello[1:]])) == Inputs(["hello world", "!", " world"])
    assert decode(read_inputs([[100257]])).items == ["<|endoftext|>"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1), st.data())
def test_it_reads_what_tiktoken_writes(table: Path, text: str, data: st.DataObject) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {token: rank for rank, token in enumerate(TOKENS)}
    encoding = tiktoken.Encoding("small", pat_str=r"\s?\w+|.|\s", mergeable_ranks=ranks, special_tokens={})
    ids = encoding.encode_ordinary(text)
    if not ids:
        return
    assert decode(Inputs([ids])).items == [encoding.decode(ids)]
    # A client that cuts long texts cuts characters too.
    cut = ids[data.draw(st.integers(0, len(ids) - 1)) :]
    assert decode(Inputs([cut])).items == [encoding.decode(cut)]


def test_half_a_character_is_replaced(table: Path) -> None:
    assert decode(Inputs([[ord("a"), 0xC3]])).items == ["a\ufffd"]


@pytest.mark.parametrize(
    ("inputs", "param"),
    [
        (Inputs([[1], [2], [3], [4, 5, 300]]), "input[3][2]"),
        (Inputs([[1, 2**31 - 1]], single=True), "input[1]"),
        (Inputs([[100256]]), "input[0][0]"),
    ],
)
def test_an_id_that_the_tokenizer_does_not_have(table: Path, inputs: Inputs, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(inputs)
    assert (caught.value.param, caught.value.code) == (param, "invalid_value")


def test_without_the_table_the_refusal_says_what_to_do(cache: Path) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(Inputs([[1]]))
    assert (caught.value.param, caught.value.code) == ("input", "token_ids_not_supported")
    for part in ("text-embedding-ada-002", "'small'", "Send texts instead", "tiktoken.get_encoding('cl100k_base')"):
        assert part in caught.value.message


def test_a_table_that_comes_later_is_found(cache: Path) -> None:
    with pytest.raises(BadRequest):
        decode(Inputs([[65]]))
    openai_ids.table_path().write_bytes(TABLE)
    assert decode(Inputs([[65]])).items == ["A"]


def test_a_table_that_was_tampered_with_is_not_used(cache: Path) -> None:
    openai_ids.table_path().write_bytes(TABLE + b"ZXZpbA== 999\n")
    with pytest.raises(BadRequest):
        decode(Inputs([[65]]))
    # tiktoken would delete it to fetch it again; it is not ARK's to delete.
    assert openai_ids.table_path().exists()


def test_the_path_and_the_checksum_are_tiktokens(tmp_path: Path) -> None:
    """tiktoken itself finds a file at this path, and takes it for another's by its checksum."""
    pytest.importorskip("tiktoken")
    path = openai_ids.table_path({"TIKTOKEN_CACHE_DIR": str(tmp_path)})
    path.write_bytes(TABLE)
    program = (
        "import tiktoken.load as load, tiktoken_ext.openai_public as public\n"
        "load.read_file = lambda blob: print('fetches', blob)\n"
        "load.check_hash = lambda data, sha256: print(len(data), sha256) or True\n"
        "public.cl100k_base()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TIKTOKEN_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == f"{len(TABLE)} {openai_ids.SHA256}\n"


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"TIKTOKEN_CACHE_DIR": "/a", "DATA_GYM_CACHE_DIR": "/b"}, "/a"),
        ({"DATA_GYM_CACHE_DIR": "/b"}, "/b"),
    ],
)
def test_the_cache_directory(environ: dict[str, str], folder: str) -> None:
    assert openai_ids.table_path(environ).parent == Path(folder)


def test_the_names_are_those_that_tiktoken_has_the_same_table_for() -> None:
    tiktoken_model = pytest.importorskip("tiktoken.model")
    names = [name for name in openai_ids.NAMES if not name.endswith("*")]
    assert {tiktoken_model.encoding_name_for_model(name) for name in names} == {"cl100k_base"}
