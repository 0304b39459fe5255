"""Runs one target under atheris, with libFuzzer's arguments: ``fuzz.py cookies FOLDER -max_total_time=60``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "support")]

with atheris.instrument_imports(include=["ark", "ark_backends", "multipart", "sse", "targets", "engine_targets"]):
    from targets import TARGETS


if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
