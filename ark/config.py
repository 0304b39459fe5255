"""The configuration: ``ark.toml`` as typed values, which `ark.config_file` reads."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from ark.http.cors import CORSConfig
from ark.suggestions import explain

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Limit = Annotated[int, Meta(ge=0)]
Name = Annotated[str, Meta(min_length=1)]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{64}\Z", description="the 64 hex digits that 'ark key' writes")]

Options = TypeVar("Options")

Task = Literal["chat", "embedding", "rerank", "transcription"]

TASK_FIELDS = {"capabilities": "chat", "tool_format": "chat", "sampling": "chat", "dimensions": "embedding"}
"""Fields of a model that mean something for one task only."""


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file, the field and the reason."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``"""

    keep_alive: Seconds = 15.0
    """Seconds of silence in a stream after which ARK sends a comment, so that proxies keep the connection."""
    load_wait: Annotated[float, Meta(ge=0)] = 30.0
    """Seconds a request waits for a model that is still loading before it gets 503."""
    drain_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds for which running replies may continue once the server is told to stop. Meanwhile new requests and
    ``/ready`` get 503. Replies that have not ended then are aborted.

    This applies to ``ark serve``. A plain hypercorn stops accepting connections when it is told to stop, and has
    ``--graceful-timeout`` for the replies."""
    unsupported_parameters: Literal["refuse", "ignore"] = "refuse"
    """What happens to a parameter that the model does not honour: ``refuse`` answers 400, ``ignore`` drops it and names
    it in ``x-ark-ignored``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    keys_file: Annotated[str, Meta(min_length=1)] | None = None
    """A TOML file with further ``[[keys]]``.

    ARK reads it again within a second or two of a change, without a restart. If it cannot be used then, the log has an
    error and the keys stay as they are. Replace the file as a whole (write another and rename it), so that ARK never
    reads half of it. With a file the server is never open, even if the file has no keys."""
    cors: CORSConfig | None = None
    allowed_hosts: tuple[Name, ...] = ()
    """Hosts that a request may name in ``Host``, without a port, in addition to loopback names and the address that the
    server listens on; others get 403. ``"*"`` allows all.

    By default a server with keys allows all, and one without keys no others, because a web page could reach it by a
    name of its own that resolves to this machine."""
    page: bool = True
    """Serve a page for people at ``/``. The page has no secrets: its requests need a key if the server has keys."""


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``"""

    body_bytes: Positive = 16 * 1024 * 1024
    """Size of a JSON body; more is 413. A route that reads no body takes 64 KiB."""
    header_timeout: Seconds = 5.0
    """Seconds in which a connection has to send a whole request head, at its beginning and after each reply. Then ARK
    closes it, with a 408 if a head has begun. Behind a load balancer, set it to more than its idle timeout.

    This applies to ``ark serve``. A plain hypercorn has ``--keep-alive``, and sends no 408."""
    upload_bytes: Positive = 26 * 1024 * 1024
    """Size of a form with a recording, fields included; more is 413. The default has room for OpenAI's limit of 25 MiB
    for the file."""
    audio_seconds: Seconds = 7200.0
    """Seconds of the longest recording; a longer one is 400."""
    body_timeout: Seconds = 30.0
    """Seconds between two chunks of a body; longer is 408."""
    body_total_timeout: Seconds = 300.0
    """Seconds for a whole body; longer is 408."""
    json_depth: Positive = 128
    """Nesting depth of arrays and objects in a JSON body; more is 400."""
    json_values: Positive = 500_000
    """Values and keys in a JSON body and in the arguments of its tool calls, an array or an object counting as 10; more
    is 400."""
    messages: Positive = 4096
    """Messages of one chat request; more is 400."""
    generation_seconds: Seconds = 3600.0
    """Seconds that a reply may take from its first token. The next token then ends it, with the finish reason
    ``length``."""
    string_length: Positive = 65_536
    """Characters of a string that its JSON schema does not limit, in a reply without ``max_tokens``. A model that never
    closes one would use up its context. White space between values is bounded in any case."""
    array_items: Positive = 4096
    """Items of an array that its JSON schema does not limit, likewise."""
    write_timeout: Seconds = 60.0
    """Seconds for which a client may leave unread what ARK has sent. Then its reply is aborted and its job cancelled.
    Until then about 100 KiB of the reply wait for the client."""
    concurrent_requests: Positive = 1024
    """Requests for an engine's work at once, waiting ones included; one more gets 503."""
    key_concurrent_requests: Limit | None = None
    """Of them, requests of one key; one more gets 429. By default a quarter of them if the server has keys. 0 is no
    limit, here and in the next two. The same number of bodies may be on the way for a key, or without keys for an
    address.

    These three limits apply to every key without limits of its own. If the server has no keys, all clients share
    them."""
    key_requests_per_minute: Limit = 0
    """Requests for an engine's work per minute and key; one more gets 429 and the time to wait."""
    key_tokens_per_minute: Limit = 0
    """Tokens per minute and key, of prompts (cached tokens too) and replies together. They are counted after the reply:
    a request is admitted while one token is left, whatever it costs, and the key waits until the debt is paid."""


class SessionsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sessions]``"""

    enabled: bool = True
    """False serves every request statelessly: ARK sets no cookie, and ``ark_stateful`` is 400."""
    explicit: bool = True
    """A request may name what it continues, by ``ark_stateful``, ``previous_response_id`` or ``conversation``. False
    answers that with 400."""
    cookie: bool = True
    """Set the cookie ``ark_session_id``, and read it."""
    match: Literal["content", "named", "cookie"] = "content"
    """How ARK finds the conversation of a request without a cookie, such as those of agents and of clients from npm.

    ``named``: by a name of its session that the client sends, such as the header ``x-session-id``, and the messages.
    ``content``: also by the messages and tools alone. ``cookie``: not at all. ARK looks among the conversations of the
    same key and model only, and on a server without keys of the same client address. Behind a proxy without keys all
    clients have the proxy's."""
    idle_timeout: Seconds = 1800.0
    """Seconds after its last turn at which a session expires."""
    max_age: Seconds = 86_400.0
    """Seconds after its beginning at which a session expires, however busy; also the cookie's Max-Age."""
    max_sessions: Positive = 10_000
    """Sessions kept at once; one more evicts the least recently used, first those that nobody came back to."""
    max_bytes: Positive = 256 * 1024 * 1024
    """Bytes of transcript, messages and token ids, kept at once in all sessions; more evicts the same way."""
    bytes_per_key: Limit = 0
    """Of them, bytes of one key's sessions; 0 is no limit. In any case no key pushes out what another has within an
    equal share of ``max_bytes`` and ``max_sessions``: the sessions of the key that has most go first.
    """
    max_conversations: Positive = 32
    """Conversations kept in one session; one more drops the session's least recently used."""
    busy_wait: Annotated[float, Meta(ge=0)] = 10.0
    """Seconds a turn waits for another turn of its ``ark_stateful`` session before it gets 409."""
    path: Annotated[str, Meta(min_length=1)] | None = None
    """SQLite file to which ARK writes transcripts when a turn commits, and from which it reads them at start.

    Only one server process may use a file.
    """
    cookie_secure: bool = False
    """Add ``Secure`` to the cookie: clients return it over HTTPS only."""
    cookie_http_only: bool = False
    """Add ``HttpOnly`` to the cookie: a page's scripts cannot read it."""
    cookie_same_site: Literal["lax", "strict", "none"] = "lax"
    """The cookie's ``SameSite``. With ``none`` browsers also send it with requests of other sites' pages, and require
    ``cookie_secure``."""
    cookie_path: Annotated[str, Meta(pattern=r"^/[!-:<-~]*\Z", description="a path that begins with /")] = "/"
    """The cookie's ``Path``: clients return it below that path only."""
    cookie_domain: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]+\Z", description="the name of a domain")] | None = None
    """The cookie's ``Domain``: clients return it to subdomains too. Without it, only to the host that set it."""

    def __post_init__(self) -> None:
        if self.cookie_same_site == "none" and not self.cookie_secure:
            raise ValueError("cookie_same_site is 'none', which browsers take only with cookie_secure")


class ResponsesConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[responses]``: what is stored for `POST /responses`, and of chat completions with ``store``. It is kept where
    sessions are."""

    max_age: Seconds = 2_592_000.0
    """Seconds after which a stored response expires, or a stored chat completion; they count as one here and in the
    next."""
    max_responses: Positive = 10_000
    """Responses stored for one key; one more drops the least recently used."""
    max_conversations: Positive = 1_000
    """Conversations of `/conversations` for one key; one more drops the least recently used."""
    bytes_per_key: Positive = 128 * 1024 * 1024
    """Bytes stored for one key, of bodies, items and token ids, and as many again of conversations; more drops the
    least recently used."""
    hosted_tools: Literal["ignore", "refuse"] = "ignore"
    """What happens to tools that OpenAI's servers run and ARK cannot, such as ``web_search``: ``ignore`` leaves them
    out and names them in ``x-ark-ignored``, ``refuse`` answers 400."""
    encryption_key: Annotated[str, Meta(min_length=32)] | None = None
    """Secret with which ``encrypted_content`` is sealed, 32 characters or more. Servers with the same one open each
    other's. By default a random one, which is kept with the sessions where they have a ``path``."""


class KeyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[keys]]``: an API key, kept as the SHA-256 of its text."""

    name: Name
    """The key's name in the log, and the owner of its sessions."""
    sha256: Sha256
    """SHA-256 digest of the key, in hexadecimal."""
    models: tuple[Name, ...] | None = None
    """Served models that the key may use; all by default."""
    concurrent_requests: Limit | None = None
    """The key's own ``key_concurrent_requests``; 0 is no limit, here and in the next two."""
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None

    def may_use(self, model: str) -> bool:
        """Whether the key may use a served model."""
        return self.models is None or model in self.models


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.sampling]``: what a request that does not say gets. Unset fields come from the model's own files."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[models]]``: one served model."""

    name: Name
    """The name that clients ask for and that GET /models lists."""
    task: Task = "chat"
    backend: Name | None = None
    """Entry point of the group ``ark.backends``, or ``package.module:Class``. By default the installed backend that
    fits the model's files best."""
    path: str | None = None
    """A directory, a GGUF file, a hub id (``name@revision`` and ``name:TYPE`` too) or the name of a default model. By
    default the model's name."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    aliases: tuple[Name, ...] = ()
    """Other names for the same model. In a pattern, such as ``gpt-*``, a star stands for any letters."""
    context_length: Positive | None = None
    """Tokens of prompt and reply together, or of one input to embed. By default the model's own."""
    max_queue: Positive = 256
    """Jobs that may wait; more get 429, but from a key that has no more than its equal share of them."""
    capabilities: Literal["all", "document"] = "all"
    """``document`` narrows the parameters to those of ARK's original specification."""
    tool_format: Literal["hermes", "llama", "mistral", "mistral_args", "qwen_xml"] | None = None
    """How the model writes tool calls. By default read from its chat template."""
    sampling: SamplingConfig = SamplingConfig()
    dimensions: tuple[Positive, ...] = ()
    """Sizes below its own that an embedding model was trained for, whose first numbers are a vector too."""
    engine: dict[str, Any] = {}
    """``[models.engine]``: the backend's own options, documented there."""

    @property
    def source(self) -> str:
        """The directory or hub id that the weights come from."""
        return self.name if self.path is None else self.path

    def __post_init__(self) -> None:
        hub_id, at, revision = self.source.partition("@")
        if at and self.revision is None and not hub_id.startswith((".", "/", "~")):
            msgspec.structs.force_setattr(self, "path", hub_id)
            msgspec.structs.force_setattr(self, "revision", revision)
        for field in msgspec.structs.fields(ModelConfig):
            task = TASK_FIELDS.get(field.name, self.task)
            if task != self.task and getattr(self, field.name) != field.default:
                raise ConfigError(f"model {self.name!r}, {field.name}: only {task} models have it")

    def engine_options(self, kind: type[Options]) -> Options:
        """The backend's options as its own Struct. Raises ConfigError that names the field."""
        try:
            return msgspec.convert(self.engine, kind)
        except msgspec.ValidationError as error:
            raise ConfigError(f"model {self.name!r}, engine{explain(error, kind)}") from error


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``ark.toml``."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    sessions: SessionsConfig = SessionsConfig()
    responses: ResponsesConfig = ResponsesConfig()
    keys: tuple[KeyConfig, ...] = ()
    models: tuple[ModelConfig, ...] = ()
    aliases: dict[Name, Name] | None = None
    """``[aliases]``: any name to any served model. When the table is not there, the names that OpenAI's clients ask
    for most point at the first model of their task."""

    def __post_init__(self) -> None:
        if self.models:
            check_names(self, self.models)
        else:
            # Which models there are only the installed backends know: the registry asks them.
            check_keys(self.keys, None)


def check_names(config: Config, models: Sequence[ModelConfig]) -> None:
    """Check that names are unique and that aliases and keys point at served models. Raises ConfigError."""
    served: set[str] = set()
    for model in models:
        if model.name in served:
            raise ConfigError(f"models: the name {model.name!r} is used twice")
        served.add(model.name)
    aliases: dict[str, str] = {}
    own = [(alias, model.name) for model in models for alias in model.aliases]
    for alias, target in [*own, *(config.aliases or {}).items()]:
        if alias in served:
            raise ConfigError(f"aliases: {alias!r} is the name of a served model")
        if alias in aliases and aliases[alias] != target:
            raise ConfigError(f"aliases: {alias!r} points at {aliases[alias]!r} and at {target!r}")
        aliases[alias] = target
        if target not in served:
            reason = "is itself an alias" if target in aliases else "is not served"
            raise ConfigError(f"aliases: {alias!r} points at {target!r}, which {reason}")
    check_keys(config.keys, served)


def check_keys(keys: Sequence[KeyConfig], served: Collection[str] | None) -> None:
    """Check that names and hashes are unique, and that the keys' models are `served`, where that is known. Raises
    ConfigError."""
    names: set[str] = set()
    digests: set[str] = set()
    for key in keys:
        if key.name in names:
            raise ConfigError(f"keys: the name {key.name!r} is used twice")
        if key.sha256.lower() in digests:
            raise ConfigError("keys: two names have the same key")
        names.add(key.name)
        digests.add(key.sha256.lower())
        for model_name in key.models or ():
            if served is not None and model_name not in served:
                raise ConfigError(f"keys: {key.name!r} may use {model_name!r}, which is not served")
