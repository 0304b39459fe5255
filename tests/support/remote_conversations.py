"""Conversations over engines elsewhere, of which one is killed in mid-turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
from llama_server import LlamaServer
from running import Running

from ark_backends.remote.opening import open_tokenizer

LENGTH = 24
"""Tokens of a reply."""


class Conversation:
    """Takes turns, and sends one again that failed."""

    def __init__(self, server: Running, number: int, turns: int) -> None:
        self._server = server
        self._turns = turns
        self.messages: list[Any] = [said("user", f"this is conversation {number} " * 2)]
        self.sessions: list[str] = []
        """What each reply says of the session."""
        self.failed = 0
        self.halfway = False
        """It has taken half of its turns, and waits for the engine to be killed."""

    def run(self, killed: threading.Event) -> None:
        with new_client(self._server) as client:
            for turn in range(self._turns):
                if turn == self._turns // 2:
                    self.halfway = True
                    killed.wait()
                self.messages.append(said("assistant", self._turn(client)))
                self.messages.append(said("user", f"turn {turn}"))

    def _turn(self, client: openai.OpenAI) -> str:
        for _ in range(20):
            text = ""
            try:
                raw = client.chat.completions.with_raw_response.create(
                    model="far", messages=self.messages, max_tokens=LENGTH, stream=True
                )
                for chunk in raw.parse():
                    text += chunk.choices[0].delta.content or ""
            except openai.APIError:
                self.failed += 1
                time.sleep(0.1)
            else:
                self.sessions.append(raw.headers["x-ark-session"])
                return text
        raise AssertionError("a turn failed twenty times")


def said(role: str, content: str | None) -> dict[str, str]:
    return {"role": role, "content": content or ""}


def new_client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=300)


def kill_one(server: Running, engine: LlamaServer, sessions: int, turns: int) -> list[Conversation]:
    """Conversations that have ended, all at once, while an engine was killed."""
    killed = threading.Event()
    conversations = [Conversation(server, number, turns) for number in range(sessions)]
    with ThreadPoolExecutor(sessions) as pool:
        done = [pool.submit(one.run, killed) for one in conversations]
        try:
            # Which engine a conversation goes to is its id's matter: there may be few on this one.
            while not _is_in_the_middle(server, engine.url):
                if all(one.halfway or run.done() for one, run in zip(conversations, done, strict=True)):
                    break
                time.sleep(0.001)
            engine.kill()
        finally:
            killed.set()
        for run in done:
            run.result()
    return conversations


def _is_in_the_middle(server: Running, url: str) -> bool:
    """An engine has turns behind it, and some on the way."""
    return any(one.running and one.finished > 2 for one in server.status().upstreams if one.url == url)


def wrong_turns(conversations: Sequence[Conversation], engine: LlamaServer, weights: Path) -> list[str]:
    """The turns whose reply is not the one that an engine gives to the whole conversation by itself.

    What else an engine computes at the same time changes its last bits. So a reply may go on otherwise where the engine
    finds two letters as likely as each other.
    """
    tokenizer, _ = open_tokenizer(weights)
    wrong = []
    for conversation in conversations:
        for end in range(1, len(conversation.messages) - 1, 2):
            prompt = tokenizer.encode(tokenizer.render(conversation.messages[:end]))
            got = conversation.messages[end]["content"]
            own = str(engine.ask("/completion", prompt=prompt, n_predict=LENGTH, temperature=0)["content"])
            same = next((index for index, (a, b) in enumerate(zip(got, own, strict=False)) if a != b), len(own))
            if got != own and not _is_a_tie(engine, prompt + tokenizer.encode(own[:same])):
                wrong.append(f"{got!r}, not {own!r}")
    return wrong


def _is_a_tie(engine: LlamaServer, prompt: list[int]) -> bool:
    said: Any = engine.ask("/completion", prompt=prompt, n_predict=1, temperature=0, n_probs=2)
    first, second = said["completion_probabilities"][0]["top_logprobs"]
    return bool(first["logprob"] - second["logprob"] < 0.05)
