"""What is known of a server, and which calls can be made against it.

GET /models is read once. ARK's entries have details: each model's task, aliases and parameters. A server without such
details is assumed to support everything. Its models are told apart by their names, or by the options of the command.

``needs`` of a call file:

========================  ==========================================================================================
``key``                   an API key is given, so that a wrong one must be refused
``ark``                   the server is ARK
``chat``                  there is a chat model; so ``embedding``, ``rerank`` and ``transcription``
``tiny_chat``             the chat model is that of ARK's tests, which does a few things reliably
``all_minilm``            the embedding model is all-MiniLM-L6-v2
``whisper_tiny_en``       the transcription model is Whisper's tiny.en
``reasoning``             the chat model is known to reason
``translation``           the transcription model is not known to be English-only
``english_alone``         it is known to be
``parameter:NAME``        the chat model honours the parameter
``embedding:NAME``        the embedding model honours the parameter
``transcription:NAME``    the transcription model honours the parameter
``no_parameter:NAME``     the chat model is known not to honour it; so ``no_embedding:NAME``, ``no_transcription:NAME``
========================  ==========================================================================================

A call implicitly needs what it refers to as ``${...}``: ``chat``, ``chat_alias``, ``embedding``,
``embedding_alias``, ``embedding_length``, ``embedding_size``, ``rerank``, ``transcription``, ``transcription_alias``,
``context_length``, ``root``, ``too_slow``, ``slow_enough``, ``loading`` and ``failed`` (chat models in that state); and
``key = "other"`` or ``"limited"``.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import msgspec

from ark_conformance.calls import Call, Step
from ark_conformance.clients import Server, tls

TINY_CHAT = "tiny-chat"
ALL_MINILM = "all-MiniLM-L6-v2"
WHISPER_TINY_EN = "whisper-tiny.en"

UNKNOWN_BODY_TIMEOUT = "how long the server waits for more of a body is not known: --body-timeout"
PATIENCE = 1.0
"""Seconds to wait beyond the server's own limit for a slow body."""

OPTIONAL: frozenset[str] = frozenset(json.loads(Path(__file__).with_name("optional_parameters.json").read_text()))
"""Parameters of a chat completion that a server may declare not to honour; made from ARK's table of parameters."""

_NOT_SENT = ("${null}", {"$unset": True})
"""Values of an argument that count as absent."""

_EMBEDDING_NAMES = re.compile(r"embedding|\bembed\b|bge-|minilm|e5-|gte-", re.IGNORECASE)
_SPEECH_NAMES = re.compile(r"whisper|transcribe", re.IGNORECASE)
_OTHER_NAMES = re.compile(r"tts|dall-e|image|moderation|realtime|audio|sora|babbage|davinci", re.IGNORECASE)


class TargetError(Exception):
    """The server's models cannot be read."""


class _NoListError(TargetError):
    """The server answers with something else than a list of models."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A server, and what is known of it."""

    server: Server
    models: tuple[dict[str, Any], ...]
    chat: str | None
    embedding: str | None
    transcription: str | None
    rerank: str | None = None
    body_timeout: float | None = None
    """Seconds that the server waits for the next part of a body."""
    restart: Callable[[], None] | None = None
    """Ends the server, and starts it again. Raises TargetError."""

    @classmethod
    def ask(
        cls,
        server: Server,
        *,
        chat: str | None = None,
        embedding: str | None = None,
        transcription: str | None = None,
        rerank: str | None = None,
        body_timeout: float | None = None,
        restart: Callable[[], None] | None = None,
    ) -> Target:
        """Read GET /models. Model names that are given take precedence. Raises TargetError.

        A server without a list of models works if at least one name is given.
        """
        try:
            models = _models(server)
        except _NoListError:
            if not (chat or embedding or transcription or rerank):
                raise
            models = ()
        return cls(
            server=server,
            models=models,
            chat=chat or _first(models, "chat"),
            embedding=embedding or _first(models, "embedding"),
            transcription=transcription or _first(models, "transcription"),
            rerank=rerank or _first(models, "rerank"),
            body_timeout=body_timeout,
            restart=restart,
        )

    def restart_and_wait(self, seconds: float = 300.0) -> None:
        """Restart the server, and wait until it answers. Raises TargetError."""
        assert self.restart is not None
        self.restart()
        deadline = time.monotonic() + seconds
        while not self.answers():
            if time.monotonic() > deadline:
                raise TargetError(f"it has not answered within {seconds:g} seconds")
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether the server still answers."""
        try:
            _get_models(self.server)
        except TargetError:
            return False
        return True

    @property
    def is_ark(self) -> bool:
        return any(isinstance(model.get("ark"), dict) for model in self.models)

    def details(self, name: str | None) -> Mapping[str, Any]:
        """ARK's details of a model. Empty for other servers."""
        for model in self.models:
            if model.get("id") == name and isinstance(details := model.get("ark"), dict):
                return details
        return {}

    def known(self) -> dict[str, Any]:
        """The named values that calls can refer to."""
        values = {
            "root": self.server.root,
            "base_url": self.server.base_url.rstrip("/"),
            "api_key": self.server.api_key or "none",
            "chat": self.chat,
            "embedding": self.embedding,
            "transcription": self.transcription,
            "rerank": self.rerank,
            "chat_alias": self._alias(self.chat),
            "embedding_alias": self._alias(self.embedding),
            "transcription_alias": self._alias(self.transcription),
            "context_length": self.details(self.chat).get("context_length"),
            "embedding_length": self.details(self.embedding).get("context_length"),
            "loading": self._in_state("loading"),
            "failed": self._in_state("failed"),
            "embedding_size": max(self.details(self.embedding).get("dimensions") or (), default=None),
            "too_slow": None if self.body_timeout is None else self.body_timeout + PATIENCE,
            "slow_enough": None if self.body_timeout is None else self.body_timeout / 3,
        }
        return {name: value for name, value in values.items() if value is not None}

    def missing(self) -> dict[str, str]:
        """For each named value that is unknown, the reason to skip a call that needs it."""
        reasons = {
            "chat": "there is no chat model in GET /models, and --chat-model names none",
            "embedding": "there is no embedding model in GET /models, and --embedding-model names none",
            "rerank": "there is no reranker in GET /models, and --rerank-model names none",
            "transcription": "there is no transcription model in GET /models, and --transcription-model names none",
            "chat_alias": "GET /models shows no alias of the chat model",
            "embedding_alias": "GET /models shows no alias of the embedding model",
            "transcription_alias": "GET /models shows no alias of the transcription model",
            "context_length": "GET /models does not tell the chat model's context length",
            "loading": "no chat model is loading",
            "failed": "no chat model has failed to load",
            "embedding_size": "GET /models does not tell the size of the embedding model's vectors",
            "embedding_length": "GET /models does not tell the embedding model's length",
            "too_slow": UNKNOWN_BODY_TIMEOUT,
            "slow_enough": UNKNOWN_BODY_TIMEOUT,
        }
        known = self.known()
        return {name: reason for name, reason in reasons.items() if name not in known}

    def reason_to_skip(self, call: Call) -> str | None:
        """Why a call cannot be made against this server, or None."""
        for need in call.needs:
            reason = self._lacks(need)
            if reason is not None:
                return reason
        missing = self.missing()
        for step in call.case.step:
            reason = self._not_given(step)
            if reason is not None:
                return reason
            for name in names_in(msgspec.to_builtins(step)):
                if name in missing:
                    return missing[name]
            # The parameters are those of the chat model.
            if step.call.startswith("chat.") and not call.case.even_if_unsupported:
                reason = self._unsupported(step.arguments)
                if reason is not None:
                    return reason
        return None

    def _not_given(self, step: Step) -> str | None:
        if step.call == "restart" and self.restart is None:
            return "nothing restarts the server: --restart"
        if step.key == "other" and self.server.other_key is None:
            return "there is no second API key: --other-key"
        if step.key == "limited" and self.server.limited_key is None:
            return "there is no API key whose limits may be used up: --limited-key"
        return None

    def _lacks(self, need: str) -> str | None:
        where, _, parameter = need.partition(":")
        if parameter:
            task = where.removeprefix("no_")
            name = getattr(self, "chat" if task == "parameter" else task)
            if where != task:
                # A server without details is not known to lack anything.
                lacks = not self._honours(name, parameter)
                return None if lacks else f"the model {name!r} is not known not to honour {parameter!r}"
            return None if self._honours(name, parameter) else f"the model {name!r} does not honour {parameter!r}"
        if need in ("chat", "embedding", "rerank", "transcription"):
            return self.missing().get(need)
        reasons = {
            "key": self.server.api_key is None and "no API key was given: --api-key",
            "ark": not self.is_ark and "the server is not ARK: GET /models has no details of ARK's",
            "tiny_chat": self._served(self.chat) != TINY_CHAT and f"only the model {TINY_CHAT} is known to answer this",
            "all_minilm": not (self._served(self.embedding) or "").endswith(ALL_MINILM)
            and f"only {ALL_MINILM} is known to give these vectors",
            "whisper_tiny_en": not (self._served(self.transcription) or "").endswith(WHISPER_TINY_EN)
            and f"only {WHISPER_TINY_EN} is known to hear this",
            "translation": self._english_alone
            and f"the model {self.transcription!r} knows English alone, and translates nothing",
            "english_alone": not self._english_alone
            and f"the model {self.transcription!r} is not known to know English alone",
            "reasoning": not self.details(self.chat).get("reasoning") and "the chat model is not known to reason",
        }
        return reasons[need] or None

    def _unsupported(self, arguments: Mapping[str, Any]) -> str | None:
        for parameter in sorted(OPTIONAL & set(arguments)):
            if arguments[parameter] not in _NOT_SENT and not self._honours(self.chat, parameter):
                return f"the model {self.chat!r} does not honour {parameter!r}"
        return None

    def _honours(self, name: str | None, parameter: str) -> bool:
        declared = self.details(name).get("parameters")
        return declared is None or parameter in declared

    def _served(self, name: str | None) -> str | None:
        return self.details(name).get("alias_of") or name

    @property
    def _english_alone(self) -> bool:
        return self.details(self.transcription).get("languages") == ["en"]

    def _in_state(self, state: str) -> str | None:
        """The first chat model in one of ARK's states, by its own name."""
        for model in self.models:
            details = self.details(model["id"])
            if details.get("state") == state and task_of(details) == "chat" and not details.get("alias_of"):
                return str(model["id"])
        return None

    def _alias(self, name: str | None) -> str | None:
        aliases = self.details(name).get("aliases") or ()
        return next((alias for alias in aliases if alias != name), None)


def names_in(value: Any) -> set[str]:
    """The name in every ``${name}`` of a value."""
    if isinstance(value, str):
        return set(re.findall(r"(?<!\$)\$\{([a-z0-9_]+)\}", value))
    if isinstance(value, dict):
        return {name for pair in value.items() for inner in pair for name in names_in(inner)}
    if isinstance(value, (list, tuple)):
        return {name for inner in value for name in names_in(inner)}
    return set()


def _models(server: Server) -> tuple[dict[str, Any], ...]:
    url, reply = _get_models(server)
    if reply.status_code in (401, 403):
        raise TargetError(f"GET {url}: {reply.status_code}: the API key is refused")
    try:
        data = reply.json().get("data") if reply.status_code == 200 else None
    except (AttributeError, ValueError):
        data = None
    if not isinstance(data, list):
        kind = reply.headers.get("content-type", "no type").partition(";")[0]
        raise _NoListError(
            f"GET {url}: {reply.status_code} and {kind}, not a list of models. Is this the URL of an API, with its "
            "/v1? For a server without a list, --chat-model, --embedding-model and --transcription-model name models."
        )
    return tuple(model for model in data if isinstance(model, dict) and isinstance(model.get("id"), str))


def _get_models(server: Server) -> tuple[str, httpx2.Response]:
    headers = {"authorization": f"Bearer {server.key('own')}"}
    url = f"{server.base_url.rstrip('/')}/models"
    try:
        with httpx2.Client(verify=tls(), timeout=server.timeout, proxy=server.proxy, trust_env=False) as http:
            return url, http.get(url, headers=headers)
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise TargetError(f"GET {url}: {type(error).__name__}: {error}") from error


def _first(models: tuple[dict[str, Any], ...], task: str) -> str | None:
    """The first model for a task. A model comes before its aliases."""
    if any(isinstance(model.get("ark"), dict) for model in models):
        return next((model["id"] for model in models if task_of(model.get("ark") or {}) == task), None)
    return next((model["id"] for model in models if _guess(model["id"]) == task), None)


def task_of(details: Mapping[str, Any]) -> str | None:
    """The task in a model's details, in this module's words."""
    task = details.get("task")
    return {"embeddings": "embedding", "transcriptions": "transcription"}.get(task, task) if task else None


def _guess(name: str) -> str | None:
    if "rerank" in name.lower():
        return "rerank"
    if _EMBEDDING_NAMES.search(name):
        return "embedding"
    if _SPEECH_NAMES.search(name):
        return "transcription"
    return None if _OTHER_NAMES.search(name) else "chat"
