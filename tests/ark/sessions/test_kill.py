"""What the file of sessions holds after its server was killed in the middle of its turns."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

KILL = Path(__file__).parents[3] / "benchmarks" / "sessions" / "kill.py"


def test_no_turn_is_lost_and_none_is_torn() -> None:
    done = subprocess.run(
        [sys.executable, str(KILL), "--kills", "25"], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    checks, cut = re.search(r"25 kills, (\d+) checks, \d+ turns ended, (\d+) cut off", done.stdout).groups()
    assert int(checks) > 10
    assert int(cut) > 10
