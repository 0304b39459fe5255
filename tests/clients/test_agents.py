"""Agents as they are by default, which speak the Responses API: `make test-clients` installs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from client_programs import KEY, run
from fixture_models import TINY_CHAT, tiny_chat
from running import Running, serve
from transformers import AutoTokenizer

from ark.app import create_app
from ark.config import Config, SamplingConfig

pytestmark = pytest.mark.npm

HERE = Path(__file__).parent
NPM = HERE / "npm"
PYTHON = HERE.parents[1] / ".venv" / "agents" / "bin" / "python"


def test_the_agents_sdk_of_python(server: Running) -> None:
    found = run(server, [PYTHON, "-W", "ignore", HERE / "python" / "openai_agents.py"])
    assert found["cities"] == ["Paris"]
    assert "21" in found["answer"]
    assert found["agent"] == "Poet"
    assert found["story"]
    assert found["streamed"]
    assert found["kinds"][0] == "response.created"
    assert found["kinds"][-1] == "response.completed"
    assert found["word"].rstrip(".").split()[-1] in found["thought"][0]


def test_instructor(server: Running) -> None:
    """It sends pydantic's schemas, which forbid no other properties, and refuses a reply that has some."""
    found = run(server, [PYTHON, "-W", "ignore", HERE / "python" / "instructor_models.py"])
    assert sorted(found) == ["JSON_SCHEMA", "TOOLS", "TOOLS_STRICT"]
    for person in found.values():
        assert sorted(person) == ["age", "home", "job", "tags"]
        assert 0 <= person["age"] <= 150
        assert person["home"]["city"] in ("Paris", "London")


def test_the_agents_sdk_of_javascript(server: Running) -> None:
    def do(scenario: str) -> Any:
        return run(server, ["node", NPM / "main.mjs", "agents", scenario])

    called = do("tools")
    assert called["calls"] == [{"city": "Paris"}]
    assert "21" in called["answer"]
    handed = do("handoff")
    assert handed["agent"] == "Poet"
    assert handed["text"]
    streamed = do("stream")
    assert "".join(streamed["pieces"]) == streamed["text"] != ""


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The tiny model with room for what agents send, and with replies of one word: so far from its training it ends few
    of them by itself, and Claude Code takes a reply that was cut for an error."""
    copy = tmp_path_factory.mktemp("model") / "tiny-chat"
    shutil.copytree(TINY_CHAT, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 65_536}))
    tokenizer = AutoTokenizer.from_pretrained(copy)
    spaced = [token for token in range(len(tokenizer)) if tokenizer.decode([token])[:1].isspace()]
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": [config["eos_token_id"], *spaced]}))
    model = msgspec.structs.replace(tiny_chat(), path=str(copy), sampling=SamplingConfig(temperature=0))
    with serve(create_app(Config(models=(model,)))) as server:
        yield server


def printed(command: str, *arguments: str, home: Path, **environment: str) -> str:
    """What an agent prints that runs to its end."""
    done = subprocess.run(
        [NPM / "node_modules" / ".bin" / command, *arguments],
        env=os.environ | environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_codex_runs_a_prompt_to_its_end(brief: Running, tmp_path: Path) -> None:
    """And goes on from there, where nearly all that it sends again has been read already."""
    (tmp_path / "config.toml").write_text(
        f"""\
model = "gpt-4o"
model_provider = "ark"

[model_providers.ark]
name = "ARK"
base_url = "{brief.url}/v1"
env_key = "OPENAI_API_KEY"
wire_api = "responses"
"""
    )

    def codex(*arguments: str) -> dict[str, Any]:
        own = {"CODEX_HOME": str(tmp_path), "OPENAI_API_KEY": KEY}
        text = printed("codex", "exec", "--json", "--skip-git-repo-check", *arguments, home=tmp_path, **own)
        events = [json.loads(line) for line in text.splitlines()]
        assert any(event.get("item", {}).get("type") == "agent_message" for event in events)
        assert events[-1]["type"] == "turn.completed"
        return events[-1]["usage"]  # type: ignore[no-any-return]

    first = codex("Hello! My name is Ada.")
    second = codex("resume", "--last", "What is my name?")
    assert second["input_tokens"] > first["input_tokens"] > 5_000
    assert second["cached_input_tokens"] > 0.9 * first["input_tokens"]


def test_claude_code_runs_a_prompt_to_its_end(brief: Running, tmp_path: Path) -> None:
    """It speaks Anthropic's API, and sends everything again at each turn."""

    def claude(*arguments: str) -> dict[str, Any]:
        own = {
            "HOME": str(tmp_path),
            "ANTHROPIC_BASE_URL": brief.url,
            "ANTHROPIC_API_KEY": KEY,
            "DISABLE_TELEMETRY": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        text = printed("claude", *arguments, "--output-format", "json", "--model", "gpt-4o", home=tmp_path, **own)
        result: dict[str, Any] = json.loads(text)
        assert result["terminal_reason"] == "completed", result
        assert result["result"]
        return result["usage"]  # type: ignore[no-any-return]

    first = claude("-p", "Hello! My name is Ada.")
    second = claude("--continue", "-p", "What is my name?")
    assert first["input_tokens"] > 5_000
    assert second["cache_read_input_tokens"] >= 0.99 * (first["input_tokens"] + first["output_tokens"])
