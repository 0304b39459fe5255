"""The conformance suite's list of optional chat parameters. The suite imports nothing of ARK, so it has a copy."""

from __future__ import annotations

import json
from pathlib import Path

from ark.engines.parameters import CHAT, beyond_document

PAGE = Path(__file__).parents[2] / "conformance" / "ark_conformance" / "optional_parameters.json"


def page() -> str:
    """The current text of the file."""
    return json.dumps(sorted(beyond_document(CHAT)), indent=1) + "\n"
