"""A byte-level BPE tokenizer of about 1,300 tokens, made for copying.

Words are split from the spaces before them, so that a word a user invents has the same pieces at
the start of a line, after a space and between quotation marks. Only the most frequent words carry
their space. Digits and punctuation stand alone, except a few pairs that JSON is made of.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.training.chat import generate, render
from tools.training.chat.lexicon import Lexicon

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Never part of an answer's text."""
MARKUP = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
"""Single tokens that a server has to see in the text."""

_PAIRS = r'": "|", "|": \{"|\{"|"\}|\}\}|": |\},? "'
_REST = rf"\p{{L}}+|{_PAIRS}|\d|[^\p{{L}}\d]"


def _pretokenizer(pattern: str) -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def train(texts: Iterable[str], size: int = 1280, spaced: int = 220) -> Tokenizer:
    """Learn pieces of words, then give the most frequent whole words a form with their space."""
    corpus = [re.sub(r"<\|?/?[a-z_]+\|?>", "\n", text) for text in texts]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = _pretokenizer(_REST)
    learner.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=size - spaced - len(CONTROL) - len(MARKUP),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    state: dict[str, Any] = json.loads(learner.to_str())
    vocabulary: dict[str, int] = state["model"]["vocab"]
    merges = [tuple(merge) for merge in state["model"]["merges"]]
    counts = Counter(word for text in corpus for word in re.findall(r" ([A-Za-z]+)", text))
    words = [word for word, _ in counts.most_common() if word in vocabulary][:spaced]
    for word in words:
        merges.append(("Ġ", word))
        vocabulary[f"Ġ{word}"] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    frequent = "|".join(sorted(words))
    tokenizer.pre_tokenizer = _pretokenizer(rf" (?:{frequent})(?!\p{{L}})|{_REST}")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in CONTROL])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in MARKUP])
    return tokenizer


def corpus(seed: int, count: int) -> Iterable[str]:
    """Training dialogues to learn the pieces from."""
    rng = random.Random(f"tokenizer-{seed}")
    lexicon = Lexicon("train")
    for _ in range(count):
        yield render.text(generate.dialogue(rng, lexicon, generate.Shape(300, 1500)), rng)
