"""How the model families write tool calls."""

from __future__ import annotations

import secrets
import string
from typing import Literal

import msgspec

FormatName = Literal["hermes", "llama", "mistral", "mistral_args", "qwen_xml"]


class ToolFormat(msgspec.Struct, frozen=True, kw_only=True):
    """One family's way to write calls: each a JSON object with a name and arguments, or a name and such arguments."""

    name: FormatName
    marker: str
    """Text that opens a call, or the list of all calls."""
    close: str = ""
    """Text that closes a call."""
    array: bool = False
    """The calls are one JSON array behind the marker."""
    bare: bool = False
    """A reply may also begin with a call and no marker."""
    separator: str = ""
    """Text between two calls."""
    key: str = "arguments"
    """The arguments' key, as the model was taught to write it."""
    name_separator: str = ""
    """Text between a name and its arguments, where they stand beside each other and not in an object."""
    tagged: bool = False
    """Arguments are tags and not JSON."""
    id_letters: int = 24

    def new_id(self) -> str:
        """An id for a call. Mistral's templates accept nine letters and digits only."""
        letters = string.ascii_letters + string.digits
        text = "".join(secrets.choice(letters) for _ in range(self.id_letters))
        return text if self.id_letters < 24 else f"call_{text}"


HERMES = ToolFormat(name="hermes", marker="<tool_call>", close="</tool_call>", separator="\n")
"""Hermes 2 Pro, Qwen 2.5 and 3: ``<tool_call>\\n{"name": ..., "arguments": {...}}\\n</tool_call>``."""

LLAMA = ToolFormat(name="llama", marker="<|python_tag|>", bare=True, separator="; ", key="parameters")
"""Llama 3.1 and later: the whole reply is ``{"name": ..., "parameters": {...}}``."""

MISTRAL = ToolFormat(name="mistral", marker="[TOOL_CALLS]", array=True, separator=", ", id_letters=9)
"""Mistral: ``[TOOL_CALLS] [{"name": ..., "arguments": {...}}]``."""

MISTRAL_ARGS = ToolFormat(name="mistral_args", marker="[TOOL_CALLS]", name_separator="[ARGS]", id_letters=9)
"""Mistral since version 11 of its tokenizer: ``[TOOL_CALLS]name[ARGS]{...}``, one behind the other."""

QWEN_XML = ToolFormat(name="qwen_xml", marker="<tool_call>", close="</tool_call>", separator="\n", tagged=True)
"""Qwen3-Coder: ``<tool_call>\\n<function=name>\\n<parameter=key>\\nvalue\\n</parameter>\\n</function>\\n</tool_call>``,
with as many parameters as there are."""

FORMATS: dict[str, ToolFormat] = {one.name: one for one in (HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, QWEN_XML)}


def find_format(template: str | None, configured: str | None = None) -> ToolFormat | None:
    """The format of a model: the configured one, or what its chat template shows. None where it knows no tools."""
    if configured is not None:
        return FORMATS[configured]
    if template is None or "tools" not in template:
        return None
    # The newer form of two with the same marker has something more.
    for one, more in ((QWEN_XML, "<function="), (HERMES, ""), (MISTRAL_ARGS, "[ARGS]"), (MISTRAL, "")):
        if one.marker in template and more in template:
            return one
    # Llama 3.2 and 3.3 have no tag in their template, but the role of tool results and the key of all of them.
    if LLAMA.marker in template or ("ipython" in template and '"parameters"' in template):
        return LLAMA
    return None
