"""Dialogues as the text the chat template makes of them, in pieces that are learned or only read.

The template is the truth (chat_template.jinja beside this file); a test compares the two.
"""

import json
import random
from typing import Any

from tools.training.chat.dialogue import Dialogue, Message

Piece = tuple[str, bool]
"""Text, and whether the model is to learn to write it."""

EMPTY_THOUGHT = "<think>\n\n</think>\n\n"


def tool_block(tools: list[dict[str, Any]]) -> str:
    """What the system message says about tools."""
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    return (
        f"# Tools\n<tools>\n{listed}\n</tools>\n"
        'To call a tool, write:\n<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
    )


def _body(message: Message) -> str:
    calls = "\n".join(
        "<tool_call>\n"
        + json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
        + "\n</tool_call>"
        for call in message.calls
    )
    return "\n".join(part for part in (message.content, calls) if part)


def pieces(dialogue: Dialogue, rng: random.Random) -> list[Piece]:
    """A whole dialogue, its last reply included."""
    messages = list(dialogue.messages)
    out: list[Piece] = []
    system = messages.pop(0).content if messages[0].role == "system" else ""
    if dialogue.tools:
        system = f"{system}\n\n{tool_block(dialogue.tools)}" if system else tool_block(dialogue.tools)
    if system:
        out.append((f"<|im_start|>system\n{system}<|im_end|>\n", False))
    last_query = max(i for i, message in enumerate(messages) if message.role == "user")
    # Without reasoning, a session has an empty thought in each turn, a stateless client in the last.
    off_everywhere = rng.random() < 0.5
    # A session may have had its reasoning switched off for some turns only.
    off_now_and_then = 0.15 if dialogue.thinking == "kept" and rng.random() < 0.15 else 0.0
    for i, message in enumerate(messages):
        past = i < last_query
        if message.role == "user":
            out.append((f"<|im_start|>user\n{message.content}<|im_end|>\n", False))
        elif message.role == "tool":
            first = messages[i - 1].role != "tool"
            last = i + 1 == len(messages) or messages[i + 1].role != "tool"
            out.append(
                (
                    ("<|im_start|>user" if first else "")
                    + f"\n<tool_response>\n{message.content}\n</tool_response>"
                    + ("<|im_end|>\n" if last else ""),
                    False,
                )
            )
        else:
            out.append(("<|im_start|>assistant\n", False))
            learn = message.learn
            thought = f"<think>\n{message.reasoning}\n</think>\n\n" if message.reasoning is not None else ""
            if dialogue.thinking == "off":
                thought = ""
                if off_everywhere or not past:
                    out.append((EMPTY_THOUGHT, False))
                learn = learn and (off_everywhere or not past)
            elif not thought and not message.calls and rng.random() < off_now_and_then:
                out.append((EMPTY_THOUGHT, False))
            elif dialogue.thinking == "stripped" and past:
                learn = learn and message.reasoning is None
                thought = ""
            out.append((f"{thought}{_body(message)}<|im_end|>", learn))
            out.append(("\n", False))
    return out


def text(dialogue: Dialogue, rng: random.Random) -> str:
    """The whole dialogue as one string."""
    return "".join(piece for piece, _ in pieces(dialogue, rng))
