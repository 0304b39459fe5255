"""What a generator needs to know of a vocabulary."""

from __future__ import annotations


class Wordless:
    """Stands in for a generator's own tokenizer, without any text.

    Generators look for stop strings and hold back half characters; ARK does both itself, so they are given a vocabulary
    in which every id is the empty text, and tokens come out as soon as they are chosen.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = self.actual_vocab_size = vocab_size
        self._pieces = [""] * vocab_size

    def get_vocab_size(self) -> int:
        return self.vocab_size

    def get_id_to_piece_list(self, include_special_tokens: bool = False) -> list[str]:
        return self._pieces
