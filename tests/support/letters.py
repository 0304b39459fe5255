"""A vocabulary of single bytes, a few longer tokens and the tags, for tests of grammars."""

from __future__ import annotations

TAGS = ("<tool_call>", "</tool_call>", "<think>", "</think>", "[TOOL_CALLS]", "<|python_tag|>")
LONG = ('{"', '": "', '"}', '",', " the", "ing", "\n\n", "  ", "é", '": {"', "}}", "123")
TOKENS = [
    *(bytes([byte]) for byte in range(256)),
    *(text.encode() for text in (*TAGS, *LONG)),
    b"<|im_start|>",
    b"<|im_end|>",
    b"<|eot|>",
    b"",
]
START, END, OTHER_END, PADDING = range(len(TOKENS) - 4, len(TOKENS))


def encode(text: str) -> list[int]:
    """Ids of a text: tags as one token, the rest as bytes."""
    ids: list[int] = []
    rest = text.encode()
    while rest:
        tag = next((tag for tag in TAGS if rest.startswith(tag.encode())), None)
        ids.append(rest[0] if tag is None else 256 + TAGS.index(tag))
        rest = rest[1:] if tag is None else rest[len(tag.encode()) :]
    return ids


def decode(ids: list[int]) -> str:
    return b"".join(TOKENS[i] for i in ids if i < START).decode("utf-8", "replace")
