"""The files for systemd and for containers."""

from __future__ import annotations

import re
import shutil
import subprocess

from process import EXAMPLES

from ark.config import Config
from ark.config_file import load_config

DEPLOY = EXAMPLES / "deploy"


def test_the_unit_confines_the_server() -> None:
    unit = DEPLOY / "ark.service"
    lines = unit.read_text("utf-8").splitlines()
    for name in ("SystemCallFilter", "RestrictAddressFamilies", "MemoryMax", "UMask", "CapabilityBoundingSet"):
        assert any(line.startswith(f"{name}=") for line in lines), name
    if (systemd := shutil.which("systemd-analyze")) is not None:
        told = subprocess.run([systemd, "security", "--offline=true", unit], capture_output=True, text=True, check=True)
        level = re.search(r"Overall exposure level for ark\.service: ([\d.]+)", told.stdout)
        assert level is not None
        assert float(level[1]) <= 3.0


def test_a_container_is_pinned_and_not_root_and_has_keys() -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    assert re.search(r"^ARG PYTHON=\S+\nFROM \$\{PYTHON\}$", text, re.MULTILINE)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    variables = dict(re.findall(r"^ENV (ARK_\w+)=(\S+)$", text, re.MULTILINE))
    assert load_config("/dev/null", variables) == load_config("/dev/null", {"ARK_SERVER__KEYS_FILE": "/data/keys.toml"})
    assert load_config("/dev/null", variables) != Config()
