"""Reasoning that a client keeps for the server, sealed, and gives back as the exact tokens that it was."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import msgspec

from ark.chat.output.reasoning import OPEN
from ark.chat.prompt.verbatim import IDS
from ark.chat.turn import Turn
from ark.sessions.sealing import Seal
from ark.sessions.transcript import Message, pack_tokens, read_message


class SealedReasoning(msgspec.Struct, frozen=True, array_like=True):
    """What the sealed text holds."""

    text: str
    ids: bytes
    """The exact tokens, packed, with the tags and the white space around them."""
    fingerprint: str
    """Of the tokenizer that gave them."""


def seal_reasoning(turn: Turn, seal: Seal, owner: str) -> str:
    """The reasoning of a turn's reply so far, for its owner alone."""
    output, prompt = turn.outputs[0], turn.prompt
    ids = output.token_ids[: output.reasoning_end]
    tokenizer = prompt.builder.tokenizer
    gap = output.token_ids[output.reasoning_end :]
    ids += itertools.takewhile(lambda token: tokenizer.decode([token]).isspace(), gap)
    _, tag, after = prompt.ending.rpartition(OPEN)
    if tag and not after.strip():
        # The prompt opens the reasoning.
        ids = [*tokenizer.encode(tag + after), *ids]
    sealed = SealedReasoning(output.reasoning, pack_tokens(ids), prompt.builder.fingerprint)
    return seal.close(msgspec.msgpack.encode(sealed), owner)


def unseal_reasoning(text: str, seal: Seal, owner: str) -> SealedReasoning:
    """Raises ValueError for what was not sealed by this secret for this owner."""
    return msgspec.msgpack.decode(seal.open(text, owner), type=SealedReasoning)


def with_exact_reasoning(
    messages: tuple[Message, ...], sealed: Mapping[int, SealedReasoning], fingerprint: str
) -> tuple[Message, ...]:
    """Messages with what their seals hold, by index, where the tokenizer is the same; else its text is there."""
    for place, one in sealed.items():
        if one.fingerprint == fingerprint:
            before = messages[place - 1] if place else None
            exact = read_message({**messages[place].data, IDS: one.ids.hex()}, before)
            messages = (*messages[:place], exact, *messages[place + 1 :])
    return messages
