"""How tests/models/tiny-chat is made: generated dialogue, a tokenizer, a trainer, an examination."""

from pathlib import Path

TINY_CHAT = Path(__file__).parents[3] / "tests" / "models" / "tiny-chat"
