"""The embedded default models of ARK: weights as package data, and the scripts that made them.

Importing this package loads nothing; a backend asks for a path and opens the files itself.
"""

from pathlib import Path

__all__ = ["chat_model_path"]


def chat_model_path() -> Path:
    """The directory of the embedded chat model, in the layout `from_pretrained` reads."""
    return Path(__file__).parent / "chat"
