"""Each call can fail: none passes on a server that refuses everything, and no refusal on one that refuses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from flawed_server import Receive, Send, serve_plain

from ark_conformance import SHIPPED
from ark_conformance.calls import Call, CallSet
from ark_conformance.clients import Server
from ark_conformance.expectations import Profile
from ark_conformance.replay import replay
from ark_conformance.target import OPTIONAL, Target

REFUSED = {"error": {"message": "No.", "type": "server_error", "param": None, "code": None}}


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """``/no`` refuses everything and ``/yes`` answers everything with an empty object."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    while (await receive()).get("more_body", False):
        pass
    refuses = scope["path"].startswith("/no/")
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 500 if refuses else 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(REFUSED if refuses else {}).encode()})


def details(task: str, **more: Any) -> dict[str, Any]:
    aliases = {"chat": ["gpt-4o"], "embedding": ["text-embedding-3-small"], "transcription": ["whisper-1"]}
    return {"task": task, "aliases": aliases.get(task, []), "context_length": 32, **more}


def target(url: str, needs: tuple[str, ...]) -> Target:
    """A server that claims to have everything that a call needs, so that none is skipped."""
    languages = ["en"] if "english_alone" in needs else ["de", "en"]
    lacking = {need.partition(":")[2] for need in needs if need.startswith("no_")}
    sparse = sorted({"ark_sparse", "ark_colbert"} - lacking)
    given = {
        "tiny-chat": details("chat", reasoning=True, parameters=sorted(OPTIONAL - lacking)),
        "all-MiniLM-L6-v2": details("embedding", dimensions=[384], parameters=sparse),
        "whisper-tiny.en": details("transcription", languages=languages, parameters=["language"]),
        "reranker": details("rerank"),
        "slow": details("chat", state="loading"),
        "broken": details("chat", state="failed"),
    }
    chat, embedding, transcription, rerank, *_ = given
    return Target(
        server=Server(base_url=f"{url}/v1", api_key="sk-own", other_key="sk-other", limited_key="sk-limited"),
        models=tuple({"id": name, "ark": ark} for name, ark in given.items()),
        chat=chat,
        embedding=embedding,
        transcription=transcription,
        rerank=rerank,
        body_timeout=0.001,
        restart=lambda: None,
    )


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_plain(app) as url:
        yield url


def impatient(call: Call) -> Call:
    """The same call without repeated steps."""
    steps = tuple(
        step if step.within is None else msgspec.structs.replace(step, within=0.0, times=1) for step in call.case.step
    )
    return msgspec.structs.replace(call, case=msgspec.structs.replace(call.case, step=steps))


def outcomes(url: str, *, refusals: bool) -> dict[str, str]:
    """The status of each call in one profile and its first variant. With `refusals`, only of calls that expect one."""
    calls = CallSet.read([SHIPPED])
    found: dict[str, str] = {}
    for call in map(impatient, calls.calls):
        if refusals and not any(step.error for step in call.case.step):
            continue
        profile: Profile = "ark" if "ark" in call.profiles else call.profiles[0]
        found[call.id] = replay(call, call.variants[0], calls, target(url, call.needs), profile).status
    assert len(found) > 100
    return found


def test_no_call_passes_where_everything_is_refused(url: str) -> None:
    found = outcomes(f"{url}/no", refusals=False)
    assert {name: status for name, status in found.items() if status != "failed"} == {
        "limits/the-rates-are-told": "skipped"
    }


def test_no_refusal_passes_where_nothing_is_refused(url: str) -> None:
    """A limit that is never reached is skipped."""
    assert "passed" not in outcomes(f"{url}/yes", refusals=True).values()
