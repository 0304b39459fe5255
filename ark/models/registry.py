"""The served models by name and alias."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

import anyio

from ark.config import Config, KeyConfig, ModelConfig, check_names
from ark.errors import BadRequest, ModelNotFound, shorten
from ark.models.default_models import log_defaults, served_models
from ark.models.served import ServedChat, ServedEmbedding, ServedTranscription

AnyServed = ServedChat | ServedEmbedding | ServedTranscription
S = TypeVar("S", ServedChat, ServedEmbedding, ServedTranscription)
_KINDS: Mapping[str, type[ServedChat] | type[ServedEmbedding] | type[ServedTranscription]] = {
    "chat": ServedChat,
    "embedding": ServedEmbedding,
    "transcription": ServedTranscription,
}

DEFAULT_ALIASES: Mapping[str, Sequence[str]] = {
    "chat": (
        *("gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini"),
        *("gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*", "claude-*"),
    ),
    "embedding": ("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large", "text-embedding-*"),
    "transcription": ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "whisper-*", "gpt-*-transcribe*"),
}
"""Task to the names that clients of OpenAI and Anthropic ask for: those that are listed, and patterns."""


class Registry:
    """Every served model, by name and by alias."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError where an alias or a key names a model that is not served."""
        models = served_models(config)
        if not config.models:
            check_names(config, models)
            log_defaults(models)
        aliases = all_aliases(models, config.aliases)
        self.models: list[AnyServed] = [
            _KINDS[model.task](model, [alias for alias, target in aliases.items() if target == model.name])
            for model in models
        ]
        self._by_name = {served.name: served for served in self.models}
        self._by_name.update({alias: self._by_name[target] for alias, target in aliases.items()})
        # Of two patterns that fit, the longer one says more about the name.
        self._patterns = sorted((alias for alias in aliases if "*" in alias), key=len, reverse=True)

    @property
    def ready(self) -> bool:
        """Whether every model answers."""
        return all(served.state == "ready" for served in self.models)

    async def open(self, after: Callable[[], object] | None = None) -> None:
        """Download what is not here, all at once, and open the models one after another: loading two at once takes the
        memory of both. Those that are downloaded open when they are here. `after` is called after each."""
        opening = anyio.Lock()

        async def open_one(served: AnyServed) -> None:
            await served.fetch()
            async with opening:
                await served.open()
                if after is not None:
                    after()

        async with anyio.create_task_group() as tasks:
            for served in self.models:
                tasks.start_soon(served.fetch)
            for served in self.models:
                await served.located.wait()
                if served.download is not None:
                    tasks.start_soon(open_one, served)
                else:
                    await open_one(served)

    def release(self, released: Sequence[tuple[str, str]]) -> None:
        """Forget the state of conversations, each as the served model's name and the state's."""
        for name, state in released:
            served = self._by_name.get(name)
            if isinstance(served, ServedChat) and served.backend is not None:
                served.backend.release(state)

    async def close(self) -> None:
        for served in self.models:
            await served.close()

    def find(self, name: str, key: KeyConfig | None) -> AnyServed:
        """The model behind a name, an alias or a pattern. Raises ModelNotFound, naming what the key may use."""
        served = self._by_name.get(name)
        if served is None and (pattern := next((it for it in self._patterns if fnmatchcase(name, it)), None)):
            served = self._by_name[pattern]
        if served is None or not (key is None or key.may_use(served.name)):
            known = ", ".join(self.names(key)) or "none"
            raise ModelNotFound(f"The model '{shorten(name)}' does not exist here. There is: {known}.", param="model")
        return served

    def find_for(self, kind: type[S], name: str, key: KeyConfig | None) -> S:
        """The same, of one task. Raises ModelNotFound, or BadRequest for a model of another task."""
        served = self.find(name, key)
        if not isinstance(served, kind):
            task = next(task for task, served_kind in _KINDS.items() if served_kind is kind)
            raise BadRequest(
                f"The model '{shorten(name)}' does {served.config.task}, not {task}.",
                param="model",
                code="model_not_supported",
            )
        return served

    def names(self, key: KeyConfig | None) -> list[str]:
        """Served names and aliases that a key may use, served names first. Patterns are none of them."""
        allowed = [served for served in self.models if key is None or key.may_use(served.name)]
        return [
            *(served.name for served in allowed),
            *(alias for served in allowed for alias in served.aliases if "*" not in alias),
        ]


def all_aliases(models: Sequence[ModelConfig], configured: Mapping[str, str] | None) -> dict[str, str]:
    """Alias to served name: each model's own, the table's, or OpenAI's names where there is no table."""
    aliases = {alias: model.name for model in models for alias in model.aliases}
    if configured is not None:
        aliases.update(configured)
        return aliases
    served = {model.name for model in models}
    for task, names in DEFAULT_ALIASES.items():
        first = next((model.name for model in models if model.task == task), None)
        for alias in names:
            if first is not None and alias not in served:
                aliases.setdefault(alias, first)
    return aliases
