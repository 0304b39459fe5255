"""How Sphinx makes a site of these pages: `make docs`.

The pages are read in the repository as well, so they hold nothing but Markdown, and their links go to files as they lie
there. The site has a copy of each file that is linked. A line that holds nothing but a link to a section of the README
becomes that section: what was measured stands in one place.
"""

from __future__ import annotations

import posixpath
import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parent.parent

project = "ARK"
author = "The ARK authors"
release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser"]
root_doc = "index"
# A heading is linked to by its words, as where the files themselves are shown.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"ARK {release}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

PARTS = {
    "Begin": ["start", "models", "exllamav2", "sessions", "commands"],
    "Use": ["parameters", "embeddings", "transcription", "migrate", "mount"],
    "Run": ["configuration", "limits", "deploy", "security", "observability", "troubleshooting"],
    "Build": ["backend", "conformance", "conformance-calls"],
}
"""The pages in their order, as beside each of them."""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)(?P<path>[^)#\s]+)(?=[)#])")
MARKDOWN = re.compile(r"(?<=\]\()(?=\.\./[^)#\s]+\.md\))")
SECTION = re.compile(r"^\[[^\]]+\]\(\.\./README\.md#(?P<anchor>[a-z0-9_-]+)\)$", re.MULTILINE)


def setup(app: Sphinx) -> None:
    app.connect("source-read", prepare)


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """Make the text of a page what MyST reads."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = SECTION.sub(lambda asked: section(readme, asked["anchor"]), source[0])
    # Without the word, Markdown from elsewhere would have to be a page of the site.
    text = MARKDOWN.sub("path:", text)
    if name == root_doc:
        text += "".join(toctree(caption, pages) for caption, pages in PARTS.items())
    source[0] = text


def toctree(caption: str, pages: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def section(readme: str, anchor: str) -> str:
    """The README's text below a heading, up to the next one of its rank, with links as a page of docs/ has them."""
    found: list[str] = []
    rank = 0
    for part in re.split(r"^(?=#{2,6} )", readme, flags=re.MULTILINE):
        marks, _, title = part.partition("\n")[0].partition(" ")
        if rank and len(marks) <= rank:
            break
        if rank:
            found.append(part)
        elif re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") == anchor:
            rank = len(marks)
            found.append(part.partition("\n")[2])
    if not rank:
        raise ExtensionError(f"the README has no section #{anchor}")
    return LINK.sub(lambda link: posixpath.relpath(link["path"], "docs"), "".join(found)).strip()
