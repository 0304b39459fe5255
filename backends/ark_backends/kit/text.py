"""Text as tokenizers take it."""

from __future__ import annotations


def valid_text(text: str) -> str:
    """The text with halves of surrogate pairs joined, and U+FFFD for one that is alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
