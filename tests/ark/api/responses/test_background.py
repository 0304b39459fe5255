"""Responses in the background."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, running, until
from response_referees import check_body, check_stream
from sse import read_events

pytestmark = pytest.mark.anyio

SLOW = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"tokens_per_second": 200}}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(models=[SLOW]) as made:
        yield made


async def post(client: Client, text: str, **fields: Any) -> Any:
    body = {"model": "echo", "input": text, "background": True, **fields}
    return await client.request("POST", "/v1/responses", json=body)


async def get(client: Client, number: str, query: str = "") -> Any:
    return await client.get(f"/v1/responses/{number}", query=query)


async def ended(client: Client, number: str) -> Any:
    with anyio.fail_after(60):
        while True:
            body = check_body((await get(client, number)).json())
            if body["status"] not in ("queued", "in_progress"):
                return body
            await anyio.sleep(0.01)


async def test_it_is_made_while_nobody_waits(client: Client) -> None:
    made = check_body((await post(client, "hello")).json())
    assert (made["status"], made["output"], made["background"]) == ("queued", [], True)
    body = await ended(client, made["id"])
    assert body["output"][0]["content"][0]["text"] == "hello"
    later = await post(client, "x", background=False, previous_response_id=made["id"])
    assert later.headers["x-ark-session"].endswith("; continued")
    assert client.app.services.limiter.running == 0


async def test_its_events_are_given_from_any_number_on(client: Client) -> None:
    whole = check_stream((await post(client, "hello", stream=True)).text)
    number = whole[-1]["response"]["id"]
    for after in (-1, 0, 4, len(whole) - 2, len(whole)):
        reply = await get(client, number, f"stream=true&starting_after={after}")
        assert [json.loads(event.data) for event in read_events(reply.text)] == whole[after + 1 :]
    assert (await get(client, number, "stream=true&starting_after=x")).error["param"] == "starting_after"
    plain = (await post(client, "x", background=False)).json()["id"]
    assert (await get(client, plain, "stream=true")).error["param"] == "stream"


async def test_its_tokens_are_counted_when_it_ends(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    number = (await post(client, "hello")).json()["id"]
    body = await ended(client, number)
    await until(lambda: "response in the background" in caplog.messages)
    (line,) = (record for record in caplog.records if record.message == "response in the background")
    fields = line.fields  # type: ignore[attr-defined]
    assert (fields["response"], fields["status"], fields["model"]) == (number, "completed", "echo")
    used = body["usage"]
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (used["input_tokens"], used["output_tokens"])
    first = next(record for record in caplog.records if record.message == "request")
    assert "prompt_tokens" not in first.fields  # type: ignore[attr-defined]
    metrics = (await client.get("/metrics")).text
    assert 'ark:request_success_total{finished_reason="stop",model_name="echo"} 1.0' in metrics
    assert f'ark:request_generation_tokens_sum{{model_name="echo"}} {float(used["output_tokens"])}' in metrics
    number = (await post(client, "x" * 2000)).json()["id"]
    await until(lambda: client.app.services.background["", number].runner.turn is not None)
    await client.request("POST", f"/v1/responses/{number}/cancel")
    metrics = (await client.get("/metrics")).text
    assert 'ark:request_success_total{finished_reason="abort",model_name="echo"} 1.0' in metrics


async def test_a_client_that_leaves_changes_nothing(client: Client) -> None:
    body = {"model": "echo", "input": "hello there", "background": True, "stream": True}
    async with client.open("POST", "/v1/responses", json=body) as exchange:
        await exchange.until(4)
        exchange.disconnect()
    number = json.loads(read_events(exchange.response.text)[0].data)["response"]["id"]
    assert (await ended(client, number))["status"] == "completed"


async def test_it_can_be_cancelled(client: Client) -> None:
    made = (await post(client, "x" * 2000)).json()
    services = client.app.services
    await until(lambda: services.background["", made["id"]].runner.turn is not None)
    path = f"/v1/responses/{made['id']}/cancel"
    cancelled = check_body((await client.request("POST", path)).json())
    assert cancelled["status"] == "cancelled"
    assert (await client.request("POST", path)).json() == cancelled == (await get(client, made["id"])).json()
    assert services.limiter.running == 0
    assert (await post(client, "x", previous_response_id=made["id"])).status == 404
    plain = (await post(client, "x", background=False)).json()["id"]
    assert (await client.request("POST", f"/v1/responses/{plain}/cancel")).status == 400


async def test_a_failure_is_the_status(client: Client) -> None:
    model = SLOW | {"engine": {"fault": "bug", "when": "middle"}}
    async with running(models=[model]) as faulty:
        body = await ended(faulty, (await post(faulty, "some text")).json()["id"])
        assert (body["status"], body["error"]["code"]) == ("failed", "server_error")
        assert "internals" not in json.dumps(body)


async def test_a_deleted_one_ends(client: Client) -> None:
    number = (await post(client, "x" * 2000)).json()["id"]
    assert (await client.request("DELETE", f"/v1/responses/{number}")).status == 200
    assert (await get(client, number)).status == 404
    assert client.app.services.limiter.running == 0


async def test_what_runs_when_the_server_stops_has_failed(tmp_path: Path) -> None:
    sessions = {"path": str(tmp_path / "sessions.db")}
    async with running(models=[SLOW], sessions=sessions) as client:
        number = (await post(client, "x" * 2000)).json()["id"]
    async with running(models=[SLOW], sessions=sessions) as client:
        assert check_body((await get(client, number)).json())["status"] == "failed"


@pytest.mark.parametrize("fields", [{"store": False}, {"background": "yes"}])
async def test_what_cannot_be_in_the_background(client: Client, fields: dict[str, Any]) -> None:
    assert (await post(client, "x", **fields)).error["param"] == "background"
