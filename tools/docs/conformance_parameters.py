"""The conformance suite's list of chat parameters that a server may declare not to honour: the suite imports no ARK."""

from __future__ import annotations

import json
from pathlib import Path

from ark.engines.parameters import CHAT, beyond_document

PAGE = Path(__file__).parents[2] / "conformance" / "ark_conformance" / "optional_parameters.json"


def page() -> str:
    """The file of today."""
    return json.dumps(sorted(beyond_document(CHAT)), indent=1) + "\n"
