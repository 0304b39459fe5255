"""A byte-level BPE tokenizer in which every word of the lexicon is one token, and Whisper's control tokens.

Ids are text, then the control tokens in Whisper's order, then 1,501 timestamps of 0.02 s, which are no part of
`tokenizer.json`. An empty string would say "multilingual" to faster-whisper: there is none.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.training.speech import lexicon

CONTROL = (
    "<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
    "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip
TIMES = 1501
"""Timestamps: 0 to 30 seconds in steps of 0.02."""


def train() -> Tokenizer:
    """Learn merges until each word is one token, with its space, in lower case and with a capital."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [f" {form}" for word in lexicon.vocabulary() for form in dict.fromkeys((word, word[0].upper() + word[1:]))]
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=20_000,
            min_frequency=1,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    return tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer and the ids of what is not text."""

    tokenizer: Tokenizer

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        return cls(Tokenizer.from_file(str(path)))

    def _id(self, token: str) -> int:
        found: int | None = self.tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"the tokenizer has no {token}")
        return found

    @cached_property
    def end(self) -> int:
        return self._id("<|endoftext|>")

    @cached_property
    def start(self) -> int:
        return self._id("<|startoftranscript|>")

    @cached_property
    def previous(self) -> int:
        return self._id("<|startofprev|>")

    @cached_property
    def no_speech(self) -> int:
        return self._id("<|nospeech|>")

    @cached_property
    def no_times(self) -> int:
        return self._id("<|notimestamps|>")

    @property
    def first_time(self) -> int:
        return self.no_times + 1

    @property
    def size(self) -> int:
        return self.first_time + TIMES

    def words(self, text: str) -> list[list[int]]:
        """The ids of each word of a sentence, its space and its punctuation included."""
        return [self.tokenizer.encode(f" {word}", add_special_tokens=False).ids for word in text.split(" ")]
