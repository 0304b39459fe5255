"""`ark-conformance --profile openai` against ARK in another server than hypercorn."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from fixture_models import SMALL_MODELS_TOML
from process import Program
from serving import serving

KEY = "sk-own"
CONFIG = f"""
{SMALL_MODELS_TOML}
[[keys]]
name = "own"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"
"""
WHISPERS = ["*async*", "*raw*", "*-and-m*", "language", "prompt", "temperature", "words*", "segments*"]
"""Calls that take seconds of the model's, and differ from others in what it does with a recording alone."""


def run_openais_profile(program: Program, directory: Path) -> None:
    """Raises AssertionError with what the suite printed."""
    with serving(directory, CONFIG, program=program) as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        command = ["-m", "ark_conformance", "--base-url", url, "--api-key", KEY, "--profile", "openai", "--jobs", "4"]
        for call in WHISPERS:
            command += ["--exclude", f"audio/{call}"]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
