"""Each example that mounts ARK in another framework's application, in a process of its own."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import openai
import pytest
from process import EXAMPLES, launch

APPS = ("mount_starlette:app", "mount_fastapi:app", "mount_django:application", "mount_quart:app")


def test_every_mount_is_run() -> None:
    assert {app.partition(":")[0] for app in APPS} == {path.stem for path in EXAMPLES.glob("mount_*.py")}


@pytest.mark.parametrize("app", APPS)
def test_ark_within_another_application(app: str, tmp_path: Path) -> None:
    with launch(tmp_path, app=app) as server:
        server.listening()
        address = f"http://127.0.0.1:{server.port}"
        own = httpx.get(address)
        assert (own.status_code, own.text) == (200, "My own page. The API is at /ai/v1.")
        with openai.OpenAI(
            base_url=f"{address}/ai/v1", api_key="none", max_retries=0, _strict_response_validation=True
        ) as client:
            messages: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]
            whole = client.chat.completions.create(model="gpt-4o", messages=messages)
            stream = client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
            assert whole.choices[0].message.content == "".join(pieces) == "hello there"
            with pytest.raises(openai.NotFoundError):
                client.models.retrieve("nothing")
        # What is not below the mount is the other application's to refuse.
        assert httpx.get(f"{address}/v1/models").status_code == 404
        assert "x-request-id" not in httpx.get(f"{address}/v1/models").headers
        server.terminate(signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in server.log
