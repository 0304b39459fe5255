"""A model's tokenizer and chat template, on a fast tokenizer of transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from tokenizers import AddedToken
from tokenizers import Tokenizer as Core

from ark.config import ConfigError
from ark.engines.model_files import read_json
from ark.errors import BadRequest
from ark_backends.kit.detokenizer import Detokenizer
from ark_backends.kit.text import valid_text

PARSED = re.compile(r"think|thought|reason|tool|function|python_tag|call|args|channel", re.IGNORECASE)
"""Special tokens that parsers of replies look for: they stay in the text of a stream."""

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end_of_turn|>", "<|end|>")
"""Tokens that end a turn in known chat templates. Not every model's configuration names them."""

RESERVED = frozenset(
    {"messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize",
     "continue_final_message", "return_tensors", "return_dict", "padding", "truncation", "max_length",
     "tokenizer_kwargs", "return_assistant_tokens_mask", "self"}
)  # fmt: skip

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class HFTokenizer:
    """`ark.engines.chat.Tokenizer` over a transformers fast tokenizer. Safe to call from any thread.

    It calls the Rust tokenizer underneath: transformers' own methods set its truncation and padding at every call, and
    threads would share that state.
    """

    def __init__(
        self, wrapped: Any, stop_token_ids: Collection[int] = (), opening_ids: Sequence[int] | None = None
    ) -> None:
        """`opening_ids` are by default those that the tokenizer itself puts before a text."""
        self._wrapped = wrapped
        self._core: Core = wrapped.backend_tokenizer
        self._core.no_truncation()
        self._core.no_padding()
        self.vocab_size = len(wrapped)
        # What stands behind a text is for models that read texts, and would end a prompt.
        self.opening_ids: Sequence[int] = opening_ids if opening_ids is not None else _before_text(self._core)
        added = self._core.get_added_tokens_decoder().values()
        # Other added tokens may be any frequent text, such as line breaks or HTML.
        marked = [token for token in added if token.special or PARSED.search(token.content)]
        self.special_texts = frozenset(token.content for token in marked)
        _match_exactly(self._core, marked)
        special = {i: t.content for i, t in self._core.get_added_tokens_decoder().items() if t.special}
        self.hidden = frozenset(i for i, text in special.items() if not PARSED.search(text))
        """Special ids that have no text in a reply."""
        template = self.chat_template or ""
        ends = {i for i, text in special.items() if text in TURN_ENDS and text in template}
        self.stop_token_ids = frozenset(stop_token_ids) | ends

    @property
    def chat_template(self) -> str | None:
        template = self._wrapped.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        return template if isinstance(template, str) else None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as the chat template writes it. Raises BadRequest with the template's own message."""
        more = dict(template_kwargs or {})
        taken = sorted(RESERVED & more.keys())
        if taken:
            names = ", ".join(taken)
            raise BadRequest(f"Template arguments cannot be called {names}.", param="chat_template_kwargs")
        if not messages:
            raise BadRequest("At least one message is needed.", param="messages")
        if self._wrapped.chat_template is None:
            raise BadRequest("This model has no chat template.", code="no_chat_template")
        try:
            text: str = self._wrapped.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] if tools else None,
                add_generation_prompt=add_generation_prompt,
                tokenize=False,
                **more,
            )
        except TemplateError as error:
            raise BadRequest(f"The model's chat template refuses these messages: {error}") from error
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise BadRequest(f"The model's chat template cannot write these messages: {error}") from error
        return text

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._core.encode(valid_text(text), add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of ids, special tokens included."""
        text: str = self._core.decode(list(token_ids), skip_special_tokens=False)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that an id adds to a text; none for an id that only pads the vocabulary."""
        return self.tokens[token_id] if 0 <= token_id < len(self.tokens) else b""

    @cached_property
    def tokens(self) -> list[bytes]:
        """The bytes of every id."""
        return token_table(self._core)

    def stream(self) -> Detokenizer:
        """A decoder for one reply. Special tokens give no text, except those that parsers look for."""
        return Detokenizer(self.decode, self.hidden)


def load_tokenizer(path: Path) -> HFTokenizer:
    """The tokenizer in a model's directory. Raises ConfigError."""
    # Only here: its import takes seconds, which other forms of models need not wait for.
    from transformers import AutoTokenizer  # noqa: PLC0415

    try:
        wrapped = AutoTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:  # tokenizers raises bare exceptions for a broken file
        raise ConfigError(f"cannot load a tokenizer from {path}: {error}") from error
    if not getattr(wrapped, "is_fast", False):
        raise ConfigError(f"the tokenizer in {path} has no tokenizer.json and cannot be made into a fast one")
    stops = set(_eos(path / "generation_config.json")) | set(_eos(path / "config.json"))
    if wrapped.eos_token_id is not None:
        stops.add(wrapped.eos_token_id)
    tokenizer = HFTokenizer(wrapped, stops)
    check_template(tokenizer, path)
    return tokenizer


def check_template(tokenizer: HFTokenizer, path: Path) -> None:
    """Refuse a template that can write nothing: every client would be told that its request is wrong."""
    try:
        tokenizer.render([{"role": "user", "content": "x"}])
    except BadRequest as error:
        # Other errors may be about this message.
        if isinstance(error.__cause__, TemplateSyntaxError):
            raise ConfigError(f"the chat template in {path} is broken: {error.__cause__}") from error


def _before_text(core: Core) -> list[int]:
    ids = core.encode("x", add_special_tokens=True).ids
    plain = core.encode("x", add_special_tokens=False).ids
    start = next((at for at in range(len(ids) - len(plain) + 1) if ids[at : at + len(plain)] == plain), 0)
    return list(ids[:start])


def _eos(file: Path) -> list[int]:
    """The values of `eos_token_id` in a configuration file."""
    value = (read_json(file) or {}).get("eos_token_id")
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int)]


def _match_exactly(core: Core, tokens: Iterable[AddedToken]) -> None:
    """Find special tokens in the text itself and not in its normal form: there other letters become theirs, such as
    U+FF1C a ``<``, and who looks through a text for special tokens does not see them."""
    for token in tokens:
        if (
            not token.normalized
            or core.normalizer is None
            or core.normalizer.normalize_str(token.content) != token.content
        ):
            continue
        add = core.add_special_tokens if token.special else core.add_tokens
        sides = {"lstrip": token.lstrip, "rstrip": token.rstrip, "single_word": token.single_word}
        add([AddedToken(token.content, normalized=False, special=token.special, **sides)])


def token_table(core: Core) -> list[bytes]:
    """The bytes that each id adds to a text, from 0 to the last id of the vocabulary; empty for missing ids.

    The decoder shows how a vocabulary writes bytes: byte-level ones have a letter for each byte, those of SentencePiece
    U+2581 for a space and ``<0x0A>`` for a byte.
    """
    vocabulary: dict[str, int] = core.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values(), default=-1) + 1)
    kinds = set(_kinds(json.loads(core.to_str()).get("decoder")))
    convert: Callable[[str], bytes]
    if "ByteLevel" in kinds:
        convert = _letters_to_bytes()
    elif kinds & {"ByteFallback", "Metaspace"} or ("Replace" in kinds and "\u2581" in core.to_str()):
        convert = _sentencepiece
    else:
        convert = str.encode
    for token, number in vocabulary.items():
        table[number] = convert(token)
    for number, added in core.get_added_tokens_decoder().items():
        # Added tokens stand in the text as they are.
        table[number] = added.content.encode()
    return table


def _letters_to_bytes() -> Callable[[str], bytes]:
    letters = byte_letters()
    bytes_of = {ord(letter): ord(byte) for letter, byte in letters.items()}

    def convert(token: str) -> bytes:
        try:
            return bytes([bytes_of[ord(letter)] for letter in token])
        except KeyError:  # of a vocabulary that also has letters that stand for themselves
            return b"".join(letters.get(letter) or letter.encode() for letter in token)

    return convert


def byte_letters() -> dict[str, bytes]:
    """The letters that byte-level vocabularies write bytes with, as in GPT-2.

    Printable Latin-1 characters stand for themselves, and U+0100 and the following ones for the other bytes in order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = {chr(byte): bytes([byte]) for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    letters.update({chr(0x100 + i): bytes([byte]) for i, byte in enumerate(others)})
    return letters


def _sentencepiece(token: str) -> bytes:
    match = _BYTE.fullmatch(token)
    return bytes([int(match[1], 16)]) if match else token.replace("\u2581", " ").encode()


def _kinds(decoder: dict[str, Any] | None) -> list[str]:
    if decoder is None:
        return []
    inner = [kind for one in decoder.get("decoders", ()) for kind in _kinds(one)]
    return [str(decoder.get("type")), *inner]
