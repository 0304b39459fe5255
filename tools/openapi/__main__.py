"""Write ark/api/ops/openapi.json."""

from __future__ import annotations

from pathlib import Path

from tools.openapi.document import encode

(Path(__file__).parents[2] / "ark" / "api" / "ops" / "openapi.json").write_bytes(encode())
