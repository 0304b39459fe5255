"""The tokenizer and chat template in a GGUF."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Core

from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF
from ark_backends.kit.gguf.pretokenizers import PATTERNS, WHOLE_WORDS
from ark_backends.kit.template import TemplatedTokenizer
from ark_backends.kit.tokenizer import HFTokenizer, check_template

log = logging.getLogger("ark.torch_chat")

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
"""Types of tokens."""

SPACE = "\u2581"

KEEPING = ("<unk>", "<s>", "<|endoftext|>")

TRIAL = "Hello w\u00f6rld \u4f60\u597d \U0001f642  12\n"

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

    @property
    def name(self) -> str:
        return str(self._values.get("general.name", ""))

    @property
    def unknown(self) -> str:
        """The token for what has none."""
        return self.token("unknown_token_id") or self.tokens[0]

    @property
    def first(self) -> str | None:
        """The token that every prompt begins with."""
        usual = self.value("model") == "llama" or self.value("pre") in WHOLE_WORDS
        begins = self.value("add_bos_token")
        return self.token("bos_token_id") if (usual if begins is None else begins) else None

    def scores(self) -> Sequence[float]:
        value = self.value("scores")
        if not (isinstance(value, memoryview) and value.format in "fd" and len(value) == len(self.tokens)):
            raise ConfigError(f"{self.path}: it has no scores of its tokens")
        return list(value)

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
        # Tables that break only when they are used.
        core.encode(TRIAL)
    except (ConfigError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # tokenizers panics over tables that do not fit together
        raise ConfigError(f"{gguf.path}: its tokenizer is broken: {error}") from error
    _add_tokens(core, vocabulary)
    template = gguf.metadata.get("tokenizer.chat_template")
    first = vocabulary.first
    if isinstance(template, str) and first and "bos_token" not in template and first not in template:
        # llama.cpp puts it there when a template does not.
        template = "{{ bos_token }}" + template
    roles = {f"{role}_token": vocabulary.token(f"{name}_token_id") for role, name in _ROLES.items()}
    wrapped = TemplatedTokenizer(
        core,
        template if isinstance(template, str) else None,
        {role: text for role, text in roles.items() if text is not None},
    )
    ends = {end for key in ENDS if (end := vocabulary.id(key)) is not None}
    begin = vocabulary.id("bos_token_id")
    made = HFTokenizer(wrapped, ends, [] if first is None or begin is None else [begin])
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


def _sentence_pieces(vocabulary: Vocabulary) -> Core:
    """SentencePiece's pairs, of which those are merged first that make the token with the highest score."""
    ids = {text: index for index, text in enumerate(vocabulary.tokens)}
    ranked = []
    for text, score in zip(vocabulary.tokens, vocabulary.scores(), strict=True):
        for place in range(1, len(text)):
            if text[:place] in ids and text[place:] in ids:
                ranked.append((-score, place, text))
    ranked.sort(key=lambda found: found[:2])
    merges = [(text[:place], text[place:]) for _, place, text in ranked]
    core = Core(models.BPE(vocab=ids, merges=merges, unk_token=vocabulary.unknown, fuse_unk=False, byte_fallback=True))
    _spaces(core, vocabulary, [])
    return core


def _unigrams(vocabulary: Vocabulary) -> Core:
    pieces = list(zip(vocabulary.tokens, vocabulary.scores(), strict=True))
    core = Core(models.Unigram(pieces, vocabulary.tokens.index(vocabulary.unknown), byte_fallback=False))
    steps: list[normalizers.Normalizer] = []
    charsmap = vocabulary.value("precompiled_charsmap")
    if isinstance(charsmap, memoryview) and len(charsmap):
        steps.append(normalizers.Precompiled(bytes(charsmap)))
    if vocabulary.value("remove_extra_whitespaces"):
        steps += [normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")]
    _spaces(core, vocabulary, steps)
    return core


def _spaces(core: Core, vocabulary: Vocabulary, steps: list[normalizers.Normalizer]) -> None:
    """Let a token of a space, which SentencePiece writes so, stand for each space, and for the beginning."""
    prefixed = vocabulary.value("add_space_prefix") is not False
    first = [normalizers.Prepend(SPACE)] if prefixed else []
    core.normalizer = normalizers.Sequence([*steps, *first, normalizers.Replace(" ", SPACE)])
    last = [decoders.Strip(" ", 1, 0)] if prefixed else []
    core.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last])


_KINDS = {"gpt2": _byte_pairs, "llama": _sentence_pieces, "t5": _unigrams}


def _add_tokens(core: Core, vocabulary: Vocabulary) -> None:
    """Make known the tokens that stand in a text as they are."""
    # Phi's take the spaces behind them along, but for these: llama.cpp knows it by the name, which is all there is.
    strips = any(name in vocabulary.name.lower() for name in ("phi-3", "phi3"))
    added = [
        AddedToken(text, special=kind != USER_DEFINED, normalized=False, rstrip=strips and text not in KEEPING)
        for text, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
        if kind in (UNKNOWN, CONTROL, USER_DEFINED)
    ]
    # Unlike `add_special_tokens`, this keeps the order of both kinds; their ids they have already.
    core.add_tokens(added)


def _pair(text: str) -> tuple[str, str]:
    # The first character may be a space itself.
    place = text.find(" ", 1)
    return (text[:place], text[place + 1 :]) if place > 0 else ("", "")
