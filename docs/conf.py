"""Sphinx's configuration: `make docs` builds these pages as a site.

People also read the pages in the repository, so they are plain Markdown, and link to files of the repository. The site
has a copy of each linked file.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent

project = "ARK"
author = "The ARK authors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser"]
root_doc = "index"
# Links to headings use GitHub's anchors, so that they work in the repository too.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"ARK {release}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

PARTS = {
    "Begin": ["start", "models", "exllamav2", "remote", "sessions", "commands"],
    "Use": ["chat", "responses", "messages", "embeddings", "rerank", "transcription", "parameters", "migrate", "mount"],
    "Run": ["configuration", "limits", "deploy", "security", "observability", "troubleshooting", "performance"],
    "Build": ["architecture", "backend", "conformance", "conformance-calls"],
}
"""The pages in the order of the sidebar."""

MARKDOWN = re.compile(r"(?<=\]\()(?=\.\./[^)#\s]+\.md\))")


def setup(app: Sphinx) -> None:
    app.connect("source-read", prepare)


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """Mark links to Markdown outside docs/ as files, and give the index its sidebar."""
    # Without `path:` MyST looks for such a file among the pages of the site.
    source[0] = MARKDOWN.sub("path:", source[0])
    if name == root_doc:
        source[0] += "".join(toctree(caption, pages) for caption, pages in PARTS.items())


def toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])
