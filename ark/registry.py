"""Names and aliases, and the opened models behind them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import anyio
import anyio.to_thread
import msgspec

from ark.auth import may_use
from ark.backends import Capabilities, ChatBackend, SamplingParams, load_backend
from ark.chat.prompt import PromptBuilder
from ark.chat.tools.formats import ToolFormat, find_format
from ark.config import Config, ConfigError, KeyConfig, ModelConfig, default_models
from ark.errors import BadRequest, ModelNotFound, Unavailable, shorten

log = logging.getLogger("ark.registry")

DEFAULT_CHAT_ALIASES = ("gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini")

DOCUMENT_UNSUPPORTED = frozenset(
    {
        "chat_template_kwargs",
        "frequency_penalty",
        "function_call",
        "functions",
        "ignore_eos",
        "logit_bias",
        "logprobs",
        "min_p",
        "min_tokens",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "reasoning_effort",
        "repetition_penalty",
        "response_format",
        "seed",
        "stop",
        "stop_token_ids",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
    }
)
"""What the founding document says that /chat/completions cannot do, or does not speak of: without it there is its
surface, ``capabilities = "document"``."""

TOOL_PARAMETERS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"})


class Served:
    """A model of the configuration and, once it is open, its backend."""

    def __init__(self, config: ModelConfig, aliases: Sequence[str]) -> None:
        self.config = config
        self.aliases = tuple(aliases)
        self.backend: ChatBackend | None = None
        self.failed = False
        self._prompts: PromptBuilder | None = None
        self._settled = anyio.Event()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def state(self) -> Literal["loading", "ready", "failed"]:
        if self.failed or (self.backend is not None and not self.backend.status().alive):
            return "failed"
        return "loading" if self.backend is None else "ready"

    @property
    def prompts(self) -> PromptBuilder:
        """What makes the model's prompts, once it is open."""
        if self._prompts is None:
            raise RuntimeError(f"the model {self.name} is not open")
        return self._prompts

    @property
    def capabilities(self) -> Capabilities | None:
        """What the backend can do, narrowed by the configuration; None until it is open."""
        if self.backend is None:
            return None
        capabilities = self.backend.capabilities
        parameters = capabilities.parameters - self._beyond_template()
        if self.config.capabilities == "document":
            parameters -= DOCUMENT_UNSUPPORTED
        return msgspec.structs.replace(capabilities, parameters=parameters)

    @property
    def tool_format(self) -> ToolFormat | None:
        """How the model writes tool calls; None where it knows none."""
        template = None if self.backend is None else self.backend.tokenizer.chat_template
        return find_format(template, self.config.tool_format)

    def _beyond_template(self) -> frozenset[str]:
        """Parameters that need something of the chat template which the model's does not have."""
        template = "" if self.backend is None else self.backend.tokenizer.chat_template or ""
        missing = frozenset[str]()
        if self.tool_format is None:
            missing |= TOOL_PARAMETERS
        if "enable_thinking" not in template and "reasoning_effort" not in template:
            missing |= {"reasoning_effort"}
        if not template:
            missing |= {"chat_template_kwargs"}
        return missing

    def default_sampling(self, backend: ChatBackend) -> SamplingParams:
        """What a request that does not say gets: the configuration's values over the model's own."""
        chosen = {
            name: value for name, value in msgspec.structs.asdict(self.config.sampling).items() if value is not None
        }
        return msgspec.structs.replace(backend.default_sampling, **chosen)

    async def open(self) -> None:
        """Load the model. A failure is logged and kept as the model's state: the others still serve."""
        started = anyio.current_time()
        try:
            kind = await anyio.to_thread.run_sync(load_backend, self.config.backend)
            backend = await kind.open(self.config)
            self._prompts = PromptBuilder(backend.tokenizer, model=self.name, context_length=backend.context_length)
            self.backend = backend
        except (ConfigError, LookupError) as error:
            # The operator's to mend: the message says it all.
            self.failed = True
            log.error("model %s cannot be opened: %s", self.name, error)
        except Exception:
            self.failed = True
            log.exception("model %s cannot be opened", self.name)
        else:
            log.info("model %s is open after %.1f s", self.name, anyio.current_time() - started)
        finally:
            self._settled.set()

    async def close(self) -> None:
        """Close the backend. A failure is logged: it must not keep the other models' memory."""
        if self.backend is None:
            return
        try:
            await self.backend.close()
        except Exception:
            log.exception("model %s cannot be closed", self.name)

    async def ready(self, wait: float) -> ChatBackend:
        """The backend, after at most `wait` seconds of loading. Raises Unavailable."""
        if self.backend is None and not self.failed:
            with anyio.move_on_after(wait):
                await self._settled.wait()
        if self.state == "failed":
            raise Unavailable(f"The model '{self.name}' failed; the server's log says why.", code="model_failed")
        if self.backend is None:
            raise Unavailable(f"The model '{self.name}' is still loading.", code="model_loading")
        return self.backend


class Registry:
    """Every served model, by name and by alias."""

    def __init__(self, config: Config) -> None:
        models = config.models or default_models()
        if not config.models:
            names = ", ".join(model.name for model in models)
            log.info("no models are configured: serving %s, a tiny one of ARK's own; [[models]] names others", names)
        aliases = all_aliases(models, config.aliases)
        self.models = [
            Served(model, [alias for alias, target in aliases.items() if target == model.name]) for model in models
        ]
        self._by_name = {served.name: served for served in self.models}
        self._by_name.update({alias: self._by_name[target] for alias, target in aliases.items()})

    @property
    def ready(self) -> bool:
        """Whether every model answers."""
        return all(served.state == "ready" for served in self.models)

    async def open(self) -> None:
        """Open the models one after another: loading two at once takes the memory of both."""
        for served in self.models:
            await served.open()

    def release(self, released: Sequence[tuple[str, str]]) -> None:
        """Forget the state of conversations, each as the served model's name and the state's."""
        for name, state in released:
            served = self._by_name.get(name)
            if served is not None and served.backend is not None:
                served.backend.release(state)

    async def close(self) -> None:
        for served in self.models:
            await served.close()

    def find(self, name: str, key: KeyConfig | None) -> Served:
        """The model behind a name or an alias. Raises ModelNotFound, naming what the key may use."""
        served = self._by_name.get(name)
        if served is None or not may_use(key, served.name):
            known = ", ".join(self.names(key)) or "none"
            raise ModelNotFound(f"The model '{shorten(name)}' does not exist here. There is: {known}.", param="model")
        return served

    def find_for(self, task: str, name: str, key: KeyConfig | None) -> Served:
        """The model behind a name, which must do `task`. Raises ModelNotFound or BadRequest."""
        served = self.find(name, key)
        if served.config.task != task:
            raise BadRequest(
                f"The model '{name}' does {served.config.task}, not {task}.",
                param="model",
                code="model_not_supported",
            )
        return served

    def names(self, key: KeyConfig | None) -> list[str]:
        """Served names and aliases that a key may use, served names first."""
        allowed = [served for served in self.models if may_use(key, served.name)]
        return [
            *(served.name for served in allowed),
            *(alias for served in allowed for alias in served.aliases),
        ]


def all_aliases(models: Sequence[ModelConfig], configured: Mapping[str, str] | None) -> dict[str, str]:
    """Alias to served name: each model's own, the table's, or OpenAI's names where there is no table."""
    aliases = {alias: model.name for model in models for alias in model.aliases}
    if configured is not None:
        aliases.update(configured)
        return aliases
    served = {model.name for model in models}
    chat = next((model.name for model in models if model.task == "chat"), None)
    if chat is not None:
        for alias in DEFAULT_CHAT_ALIASES:
            if alias not in served:
                aliases.setdefault(alias, chat)
    return aliases
