"""The table of OpenAI's tokenizer, in a folder that stands for tiktoken's cache."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path

from ark.api.embeddings.openai_ids import table_path


def save_openai_tokenizer(folder: Path) -> None:
    """Copy the table from litellm, which carries it under the name that tiktoken gives it.

    tiktoken and ARK look at its checksum.
    """
    litellm = find_spec("litellm")
    assert litellm is not None
    assert litellm.origin is not None
    shutil.copy(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers" / table_path().name, folder)
