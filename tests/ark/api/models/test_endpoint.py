"""GET /models and /models/{id}."""

from __future__ import annotations

from typing import Any

import pytest
from asgi_client import ECHO, backend_of, running

from ark.models.default_models import DEFAULT_ALIASES

pytestmark = pytest.mark.anyio

SLASHED = ECHO | {"name": "org/model-7B v2", "aliases": ["org/short", "ünï"]}


async def test_every_model_and_every_alias_is_listed() -> None:
    async with running(models=[ECHO, SLASHED]) as client:
        reply = await client.get("/v1/models")
    listed = reply.json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == [
        "echo",
        "org/model-7B v2",
        "gpt-3.5-turbo",
        "gpt-4o",
        "gpt-4o-mini",
        "org/short",
        "ünï",
    ]
    for model in listed["data"]:
        assert (model["object"], model["owned_by"]) == ("model", "ark")
        assert isinstance(model["created"], int)


async def test_the_details_of_a_model() -> None:
    async with running(models=[ECHO | {"context_length": 77}]) as client:
        model = (await client.get("/v1/models/echo")).json()
        alias = (await client.get("/v1/models/gpt-4o")).json()
    assert model["ark"] == {
        "task": "chat",
        "backend": "echo_backend:EchoBackend",
        "state": "ready",
        "download": None,
        "alias_of": None,
        "aliases": list(DEFAULT_ALIASES["chat"]),
        "context_length": 77,
        "reasoning": False,
        "deterministic": None,
        "dimensions": None,
        "languages": None,
        "sampling": {
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
        },
        "parameters": ["max_completion_tokens", "max_tokens", "stop", "stream", "stream_options"],
    }
    assert alias["id"] == "gpt-4o"
    assert alias["ark"] == model["ark"] | {"alias_of": "echo"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/org/model-7B%20v2", "org/model-7B v2"),
        ("/v1/models/org%2Fmodel-7B%20v2", "org/model-7B v2"),
        ("/models/org%2fshort/", "org/short"),
        ("/models/%C3%BCn%C3%AF", "ünï"),
    ],
)
async def test_a_name_with_slashes_or_escapes(path: str, name: str) -> None:
    async with running(models=[SLASHED]) as client:
        reply = await client.get(path)
    assert reply.json()["id"] == name


@pytest.mark.parametrize("name", ["nothing", "ECHO", "echo2", "echo%00", "%FF", "a" * 5000, "..", "echo/x"])
async def test_a_name_that_is_not_there(name: str) -> None:
    async with running() as client:
        reply = await client.get(f"/v1/models/{name}")
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"
    assert reply.error["param"] == "model"
    assert "echo, gpt-3.5-turbo" in reply.error["message"]
    assert len(reply.error["message"]) < 400


async def test_a_model_that_loads_or_has_failed_is_listed_as_such() -> None:
    models: list[dict[str, Any]] = [
        ECHO | {"name": "bad", "backend": "faulty_backend:BadAtOpening"},
        ECHO | {"name": "missing", "backend": "no_such_module:Backend"},
        ECHO | {"name": "died", "backend": "faulty_backend:Faulty"},
    ]
    async with running(models=models) as client:
        backend_of(client, 2).alive = False
        states = {m["id"]: m["ark"]["state"] for m in (await client.get("/models")).json()["data"]}
        details = (await client.get("/models/bad")).json()["ark"]
    assert states["bad"] == states["missing"] == states["died"] == "failed"
    assert (details["context_length"], details["parameters"], details["reasoning"]) == (None, None, None)


async def test_own_aliases_replace_openais_names() -> None:
    async with running(aliases={"mine": "echo"}) as client:
        names = [model["id"] for model in (await client.get("/models")).json()["data"]]
        reply = await client.chat(model="mine")
        gone = await client.chat(model="gpt-4o")
    assert names == ["echo", "mine"]
    assert reply.json()["model"] == "mine"
    assert gone.status == 404


WORDS = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}


async def test_the_models_of_one_task_are_listed_alone() -> None:
    async with running(models=[ECHO, WORDS]) as client:
        listed = {
            query: [model["id"] for model in (await client.get("/v1/models", query=query)).json()["data"]]
            for query in ("task=chat", "task=embedding", "task=transcription", "other=x", "")
        }
        refused = [
            await client.get("/v1/models", query=query) for query in ("task=", "task=null", "task=images", "&a=" * 100)
        ]
    assert listed["task=chat"] == ["echo", "gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini"]
    assert listed["task=embedding"][0] == "words"
    assert listed["task=transcription"] == []
    assert listed["other=x"] == listed[""] == ["echo", "words", *listed["task=chat"][1:], *listed["task=embedding"][1:]]
    assert [(reply.status, reply.error["param"]) for reply in refused] == [*[(400, "task")] * 3, (400, None)]


async def test_a_model_says_its_kind_as_other_servers_do() -> None:
    async with running(models=[ECHO | {"context_length": 77}, WORDS]) as client:
        chat, words = [(await client.get(f"/v1/models/{name}")).json() for name in ("echo", "words")]
    assert (chat["type"], chat["capabilities"], chat["max_model_len"]) == ("llm", ["completion"], 77)
    assert (words["type"], words["capabilities"]) == ("embeddings", ["embedding"])
