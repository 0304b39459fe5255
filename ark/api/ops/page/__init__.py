"""The page at ``/``: one document without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files


@cache
def page() -> tuple[bytes, str]:
    """The document, and the content security policy that lets run what is in it and nothing else."""
    source = files(__package__)
    html, style, script = (
        source.joinpath(f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    document = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            # The colours of a table's cells are set by the script, which this does not concern.
            f"style-src '{_hash(style)}'",
            "connect-src 'self'",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
    return document.encode(), policy


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
