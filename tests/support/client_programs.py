"""Programs that use other people's clients, and print what they found as JSON.

They are processes of their own: clients set up logging, telemetry and event loops as they like, and warn of their own
affairs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from running import Running

KEY = "sk-own"

_QUIET = {"LANGSMITH_TRACING": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}


def run(server: Running, command: Sequence[str | Path]) -> Any:
    """What a program prints last, with the server's URL and key in its environment."""
    environment = {**os.environ, **_QUIET, "OPENAI_BASE_URL": f"{server.url}/v1", "OPENAI_API_KEY": KEY}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])
