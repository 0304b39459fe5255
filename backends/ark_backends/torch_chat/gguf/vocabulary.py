"""The tokenizer and chat template in a GGUF."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Core
from transformers import PreTrainedTokenizerFast

from ark.config import ConfigError
from ark_backends.kit.tokenizer import HFTokenizer, check_template
from ark_backends.torch_chat.gguf.file import GGUF
from ark_backends.torch_chat.gguf.pretokenizers import PATTERNS, WHOLE_WORDS

log = logging.getLogger("ark.torch_chat")

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""Types of tokens."""

ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
"""Tokens after which a reply ends."""


class Vocabulary:
    """The tables of a file, checked."""

    def __init__(self, gguf: GGUF) -> None:
        self.path = gguf.path
        self._values = gguf.metadata
        self.tokens: list[str] = self._texts("tokens")
        self.kinds: Sequence[int] = self._numbers("token_type", [NORMAL] * len(self.tokens))
        if len(self.kinds) != len(self.tokens):
            raise ConfigError(f"{self.path}: it has {len(self.tokens)} tokens, and types of {len(self.kinds)}")
        if len(set(self.tokens)) != len(self.tokens):
            # llama.cpp refuses them as well.
            self.tokens = [text or f"[unused {index}]" for index, text in enumerate(self.tokens)]
            if len(set(self.tokens)) != len(self.tokens):
                raise ConfigError(f"{self.path}: its vocabulary has a token twice")

    def value(self, key: str) -> Any:
        return self._values.get(f"tokenizer.ggml.{key}")

    def id(self, key: str) -> int | None:
        value = self.value(key)
        return value if isinstance(value, int) and 0 <= value < len(self.tokens) else None

    def token(self, key: str) -> str | None:
        found = self.id(key)
        return None if found is None else self.tokens[found]

    def merges(self) -> list[tuple[str, str]]:
        known = set(self.tokens)
        pairs = [_pair(text) for text in self._texts("merges")]
        return [(one, other) for one, other in pairs if one in known and other in known and one + other in known]

    def _texts(self, key: str) -> list[str]:
        value = self.value(key)
        if not (isinstance(value, list) and all(isinstance(text, str) for text in value)):
            raise ConfigError(f"{self.path}: it has no list tokenizer.ggml.{key}")
        return value

    def _numbers(self, key: str, default: Sequence[int]) -> Sequence[int]:
        value = self.value(key)
        if value is None:
            return default
        if not (isinstance(value, memoryview) and value.format in "bBhHiIqQ"):
            raise ConfigError(f"{self.path}: tokenizer.ggml.{key} is no list of numbers")
        return list(value)


def tokenizer(gguf: GGUF) -> HFTokenizer:
    """The tokenizer of a GGUF, from its own tables. Raises ConfigError."""
    vocabulary = Vocabulary(gguf)
    kind = vocabulary.value("model")
    if kind not in _KINDS:
        raise ConfigError(f"{gguf.path}: ARK knows no tokenizer of the kind {str(kind)[:40]!r}")
    try:
        core = _KINDS[kind](vocabulary)
    except ConfigError:
        raise
    except Exception as error:  # tokenizers raises bare exceptions for tables that do not fit together
        raise ConfigError(f"{gguf.path}: its tokenizer is broken: {error}") from error
    _add_tokens(core, vocabulary)
    template = gguf.metadata.get("tokenizer.chat_template")
    roles = {f"{role}_token": vocabulary.token(f"{name}_token_id") for role, name in _ROLES.items()}
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=core,
        chat_template=template if isinstance(template, str) else None,
        **{role: text for role, text in roles.items() if text is not None},
    )
    ends = {end for key in ENDS if (end := vocabulary.id(key)) is not None}
    made = HFTokenizer(wrapped, ends)
    check_template(made, gguf.path)
    return made


_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


def _byte_pairs(vocabulary: Vocabulary) -> Core:
    name = vocabulary.value("pre")
    if name is None:
        log.warning("%s: it names no pre-tokenizer; llama.cpp's default is used", vocabulary.path)
        name = "default"
    if name not in PATTERNS:
        raise ConfigError(f"{vocabulary.path}: ARK knows no pre-tokenizer {str(name)[:40]!r}")
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    core = Core(models.BPE(vocab=ids, merges=vocabulary.merges(), ignore_merges=name in WHOLE_WORDS))
    cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in PATTERNS[name]]
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    core.decoder = decoders.ByteLevel()
    return core


_KINDS = {"gpt2": _byte_pairs}


def _add_tokens(core: Core, vocabulary: Vocabulary) -> None:
    """Make known the tokens that stand in a text as they are."""
    added = [
        AddedToken(text, special=kind != USER_DEFINED, normalized=False)
        for text, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    # Unlike `add_special_tokens`, this keeps the order of both kinds; their ids they have already.
    core.add_tokens(added)


def _pair(text: str) -> tuple[str, str]:
    # The first character may be a space itself.
    place = text.find(" ", 1)
    return (text[:place], text[place + 1 :]) if place > 0 else ("", "")
