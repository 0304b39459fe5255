"""Runs one target under atheris, with libFuzzer's arguments: ``fuzz.py cookies FOLDER -max_total_time=60``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "support"), str(TESTS.parent / "examples")]

with atheris.instrument_imports(
    include=[
        "ark",
        "ark_backends",
        "h11",
        "hypercorn",
        "multipart",
        "targets",
        "engine_targets",
        "server_targets",
        "responses_target",
    ]
):
    from targets import TARGETS


if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
