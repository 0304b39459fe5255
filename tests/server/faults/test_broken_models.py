"""Models whose directories are broken: each is refused with a reason in the log, and the others are served."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from serving import Server, states

BROKEN = {
    "no-configuration": "config",
    "configuration-no-json": "config",
    "unknown-architecture": "zorblat",
    "other-shapes": "another shape",
    "truncated-weights": "",
    "no-weights": "",
    "empty-weights": "",
    "tokenizer-no-json": "tokenizer",
    "no-tokenizer": "tokenizer",
    "bad-template": "template",
    "empty-directory": "",
    "no-directory": "no-directory",
    "a-file": "a-file",
}
"""Model to a word of the reason."""


@pytest.mark.parametrize("model", BROKEN)
def test_a_broken_model_is_refused_and_the_log_says_why(torch: Server, models: Mapping[str, Path], model: str) -> None:
    assert states(torch)[model] == "failed"
    reply = torch.ask(model=model)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (503, "model_failed")
    # Where things lie on the server is none of a client's business.
    assert str(models[model]) not in reply.text
    assert f"{model} is failed" in torch.client.get("/ready").json()["error"]["message"]
    (line,) = [one for one in torch.complaints() if one["message"].startswith(f"model {model} cannot be opened")]
    assert line["level"] == "error"
    assert str(models[model]) in line["message"]
    assert BROKEN[model] in line["message"]
    assert "traceback" not in line


def test_the_others_are_served(torch: Server) -> None:
    assert torch.client.get("/health").status_code == 200
    assert torch.ask().json()["choices"][0]["message"]["content"] == "hello"
    assert torch.ask(model="tiny", max_tokens=3).status_code == 200
