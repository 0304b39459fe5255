"""The served models by name and alias, each with its backend once it is open."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Generic, Literal, TypeVar, cast

import anyio
import anyio.from_thread
import msgspec
from anyio.lowlevel import EventLoopToken, current_token

from ark.chat.prompt.builder import PromptBuilder
from ark.chat.tools.formats import ToolFormat, find_format
from ark.concurrency import load_in_thread
from ark.config import Config, ConfigError, KeyConfig, ModelConfig, ServerConfig, check_names
from ark.engines import parameters
from ark.engines.backend import Backend, Capabilities
from ark.engines.chat import ChatBackend, SamplingParams
from ark.engines.embedding import EmbeddingBackend
from ark.engines.loading import InstalledBackend, find_backend
from ark.engines.rerank import RerankBackend
from ark.engines.transcription import TranscriptionBackend
from ark.errors import BadRequest, ModelNotFound, Unavailable, UnsupportedParameter, shorten
from ark.models.backend_selection import select_backend, usual_backend
from ark.models.default_models import all_aliases, log_defaults, served_models

log = logging.getLogger("ark.registry")

B = TypeVar("B", bound=Backend)

MB = 1_000_000

NO_TOOLS = (
    " Its chat template has no tools. examples/prompt_tools.py has tools by the prompt alone; with 'tool_format' in the"
    " model's configuration ARK puts them into the system message."
)


class Download(msgspec.Struct, frozen=True):
    """How much of a model has been downloaded, in bytes."""

    received: int
    total: int

    def __str__(self) -> str:
        return f"{self.received // MB} of {self.total // MB} MB downloaded"


class Served(Generic[B]):
    """A model of the configuration and, once it is open, its backend."""

    table: parameters.Table
    """Of the requests to a model of this task."""

    def __init__(self, config: ModelConfig, aliases: Sequence[str], server: ServerConfig) -> None:
        self.config = config
        self._server = server
        self.aliases = tuple(aliases)
        self.backend: B | None = None
        self.capabilities: Capabilities | None = None
        """What the backend can do, narrowed by the configuration; None until it is open."""
        self._refused: Sequence[parameters.Parameter] = ()
        """The parameters that the model cannot honour."""
        self._without_effect: frozenset[str] = frozenset()
        """Those that are accepted all the same, for there is nothing that they could change."""
        self.hints: dict[str, str] = {}
        """What to do about some of the parameters that the model cannot honour."""
        self.failed = False
        self.download: Download | None = None
        """While the model is being downloaded."""
        self.located = anyio.Event()
        """Set once it is known whether the files are here, or have to be downloaded."""
        self._found: tuple[InstalledBackend, ModelConfig] | None = None
        """The backend, and the configuration to open, once the model's files are here."""
        self._fetching = anyio.Lock()
        self._fetching_ended = False
        self._settled = anyio.Event()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def backend_name(self) -> str:
        """The backend; until the model's files have been looked at, the usual one of its task."""
        return self.config.backend or usual_backend(self.config.task)

    @property
    def state(self) -> Literal["loading", "ready", "failed"]:
        if self.failed or (self.backend is not None and not self.backend.status().alive):
            return "failed"
        return "loading" if self.backend is None else "ready"

    @property
    def description(self) -> str:
        """The state in words."""
        return f"{self.state}, {self.download}" if self.download is not None else self.state

    async def fetch(self) -> None:
        """Have the model's files on this machine. A failure is logged and kept as the model's state."""
        async with self._fetching:
            if self.located.is_set():
                return
            with self._keep_failure():
                selected = await load_in_thread(partial(select_backend, self.config))
                log.info("model %s: %s on %s, %s", self.name, self.config.task, selected.name, selected.reason)
                self.config = msgspec.structs.replace(self.config, backend=selected.name)
                backend = await load_in_thread(partial(find_backend, selected.name, self.config.task))
                report = partial(self._report, current_token())
                try:
                    found = await load_in_thread(partial(backend.fetch, self.config, report))
                finally:
                    self._fetching_ended = True
                path = self.config.path if found is None else str(found)
                self._found = backend, msgspec.structs.replace(self.config, path=path)
            self.download = None
            self.located.set()

    def _report(self, token: EventLoopToken, received: int, total: int) -> None:
        """Keep how far the download is, and log each tenth. Called in the download's thread; raises when the server
        stops."""
        if self._fetching_ended:
            raise ConfigError("the server stops")
        before, self.download = self.download, Download(received, total)
        if before is None:
            anyio.from_thread.run_sync(self.located.set, token=token)
        if before is None or 10 * received // max(total, 1) > 10 * before.received // max(before.total, 1):
            log.info("model %s: %s", self.name, self.download)

    async def open(self) -> None:
        """Load the model, once its files are here. A failure is logged and kept as the model's state: the others still
        serve."""
        await self.fetch()
        started = anyio.current_time()
        with self._keep_failure():
            if self._found is None:
                return
            installed, config = self._found
            # It has been seen that the class does the task.
            backend = cast(B, await installed.kind.open(config))
            try:
                self.capabilities = self._prepare(backend)
            except Exception:
                # Nobody would close it later.
                await backend.close()
                raise
            honoured = self.capabilities.parameters | self._without_effect
            self._refused = [
                row for name, row in self.table.items() if row.neutral is not None and name not in honoured
            ]
            self.backend = backend
            self._settled.set()
            log.info("model %s is open after %.1f s", self.name, anyio.current_time() - started)

    @contextmanager
    def _keep_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failed = True
            self._settled.set()
            # A mistake of the operator's is said by its message alone.
            known = isinstance(error, ConfigError | LookupError)
            log.error("model %s cannot be opened: %s", self.name, error, exc_info=None if known else error)

    def _prepare(self, backend: B) -> Capabilities:
        """Make what the model's requests need beside the backend, and say what the model can do."""
        return backend.capabilities

    def check(self, body: Any) -> list[str]:
        """Names of the parameters to ignore: their values would change the answer, and the model cannot honour them.

        Raises UnsupportedParameter for the first one unless the configuration has them ignored.
        """
        sent = [(row, getattr(body, row.name, None)) for row in self._refused]
        names = [row.name for row, value in sent if value is not None and not row.is_neutral(value)]
        if names and self._server.unsupported_parameters == "refuse":
            hint = self.hints.get(names[0], "")
            raise UnsupportedParameter(f"The model '{body.model}' does not support '{names[0]}'.{hint}", param=names[0])
        return names

    async def close(self) -> None:
        """Close the backend. A failure is logged: it must not keep the other models' memory."""
        if self.backend is None:
            return
        try:
            await self.backend.close()
        except Exception:
            log.exception("model %s cannot be closed", self.name)

    async def ready(self) -> B:
        """The backend, which may be loading for ``[server] load_wait`` seconds more. Raises Unavailable."""
        if self.backend is None and not self.failed:
            with anyio.move_on_after(self._server.load_wait):
                await self._settled.wait()
        if self.state == "failed":
            raise Unavailable(f"The model '{self.name}' failed; the server's log says why.", code="model_failed")
        if self.backend is None:
            raise Unavailable(f"The model '{self.name}' is still {self.description}.", code="model_loading")
        return self.backend


class ServedChat(Served[ChatBackend]):
    """A chat model."""

    table = parameters.CHAT
    prompts: PromptBuilder
    """What makes the model's prompts. It is there once the model is open, as are the others."""
    tool_format: ToolFormat | None
    """How the model writes tool calls; None where it knows none."""
    default_sampling: SamplingParams
    """What a request that does not say gets: the configuration's values over the model's own."""

    def _prepare(self, backend: ChatBackend) -> Capabilities:
        template = backend.tokenizer.chat_template
        self.tool_format = find_format(template, self.config.tool_format)
        self.prompts = PromptBuilder(
            backend.tokenizer,
            model=self.name,
            context_length=backend.context_length,
            tool_format=self.tool_format if template and "tools" not in template else None,
        )
        configured = msgspec.structs.asdict(self.config.sampling)
        chosen = {name: value for name, value in configured.items() if value is not None}
        sampling = msgspec.structs.replace(backend.default_sampling, **chosen)
        self.default_sampling = msgspec.structs.replace(
            sampling, top_p=max(parameters.SMALLEST_TOP_P, sampling.top_p), top_k=max(0, sampling.top_k)
        )
        # What the template lacks for some parameters.
        missing = {
            "tools": self.tool_format is None,
            "thinking": not template or not any(name in template for name in ("enable_thinking", "reasoning_effort")),
            "template": not template,
        }
        beyond = {name for name, row in parameters.CHAT.items() if missing.get(row.needs or "")}
        if self.config.capabilities == "document":
            beyond |= parameters.beyond_document(parameters.CHAT)
        else:
            if not backend.capabilities.reasoning:
                self._without_effect = frozenset({"reasoning_effort"})
            if missing["tools"]:
                self.hints = {name: NO_TOOLS for name, row in parameters.CHAT.items() if row.needs == "tools"}
        honoured = backend.capabilities.parameters - beyond
        return msgspec.structs.replace(backend.capabilities, parameters=honoured)


class ServedEmbedding(Served[EmbeddingBackend]):
    """An embedding model."""

    table = parameters.EMBEDDINGS

    def _prepare(self, backend: EmbeddingBackend) -> Capabilities:
        # The encoding is the server's own work, whatever the backend.
        found = backend.capabilities
        return msgspec.structs.replace(found, parameters=found.parameters | {"encoding_format"})


class ServedRerank(Served[RerankBackend]):
    """A reranker."""

    table = parameters.RERANK


class ServedTranscription(Served[TranscriptionBackend]):
    """A speech model."""

    table = parameters.TRANSCRIPTIONS


AnyServed = ServedChat | ServedEmbedding | ServedRerank | ServedTranscription
S = TypeVar("S", ServedChat, ServedEmbedding, ServedRerank, ServedTranscription)
_KINDS: Mapping[str, type[ServedChat] | type[ServedEmbedding] | type[ServedRerank] | type[ServedTranscription]] = {
    "chat": ServedChat,
    "embedding": ServedEmbedding,
    "rerank": ServedRerank,
    "transcription": ServedTranscription,
}


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
            _KINDS[model.task](
                model, [alias for alias, target in aliases.items() if target == model.name], config.server
            )
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
