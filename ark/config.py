"""The configuration: ``ark.toml`` as typed values.

Read from ``$ARK_CONFIG``, else from ``ark.toml`` in the working directory, else the defaults, which serve the
embedded models. Environment variables ``ARK_<TABLE>__<FIELD>`` override single fields of the tables (not of the
models). Every problem is a `ConfigError` that names the file, the field and the reason.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
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

Task = Literal["chat", "embedding", "transcription"]

TASK_FIELDS = {"capabilities": "chat", "tool_format": "chat", "sampling": "chat", "dimensions": "embedding"}
"""Fields of a model that mean something for one task only."""


class ConfigError(Exception):
    """The configuration cannot be used; the message names the file, the field and the reason."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[server]``"""

    keep_alive: Seconds = 15.0
    """Seconds of silence in a stream after which a comment is sent, so that proxies keep the connection."""
    load_wait: Annotated[float, Meta(ge=0)] = 30.0
    """Seconds a request waits for a model that is still loading before it gets 503."""
    drain_seconds: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds for which replies may go on once the server is told to stop. New requests get 503 meanwhile, and so does
    ``/ready``; what has not ended then is broken off.

    It holds for ``ark serve``. A hypercorn that was started by itself takes no connections any more when it is told to
    stop, and has ``--graceful-timeout`` for the replies."""
    unsupported_parameters: Literal["refuse", "ignore"] = "refuse"
    """What happens to a parameter that the model cannot honour: 400, or dropped and named in ``x-ark-ignored``."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    keys_file: Annotated[str, Meta(min_length=1)] | None = None
    """A TOML file with ``[[keys]]`` of its own, beside those of the configuration.

    It is read again within a second or two of a change, without a restart. One that cannot be used then is an error in
    the log, and the keys stay as they were. Replace it whole (write another file and rename it), so that no half of it
    is ever read. With a file the server is never open, even when there is no key in it."""
    cors: CORSConfig | None = None
    page: bool = True
    """Whether there is a page for people at ``/``. It holds nothing secret: what it asks the server needs a key, where
    there are keys."""


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``"""

    body_bytes: Positive = 16 * 1024 * 1024
    """Size of a JSON body; more is 413. A route that reads no body takes 64 KiB."""
    header_timeout: Seconds = 5.0
    """Seconds that a connection may stay without the whole head of a request, at its beginning and behind each reply;
    then it is closed, with a 408 where a head has begun. More than a load balancer keeps idle connections, where one
    stands in front.

    It holds for ``ark serve``; a hypercorn that was started by itself has ``--keep-alive``, and says nothing."""
    upload_bytes: Positive = 26 * 1024 * 1024
    """Size of a form with a recording, its fields included; more is 413. OpenAI's limit of 25 MiB for the file fits."""
    audio_seconds: Seconds = 7200.0
    """Seconds of the longest recording; a longer one is 400."""
    body_timeout: Seconds = 30.0
    """Seconds between two pieces of a body; longer is 408."""
    body_total_timeout: Seconds = 300.0
    """Seconds for a whole body; longer is 408."""
    json_depth: Positive = 128
    """Arrays and objects inside each other in a JSON body; more is 400."""
    messages: Positive = 4096
    """Messages of one chat request; more is 400."""
    generation_seconds: Seconds = 3600.0
    """Seconds that a reply may take from its first token on. One that takes longer ends there, as it is, with the
    finish reason ``length``."""
    write_timeout: Seconds = 60.0
    """Seconds for which a client may leave what was sent to it unread. Longer, and its reply is broken off and its job
    cancelled; until then about 100 KiB of the reply wait for it."""
    concurrent_requests: Positive = 1024
    """Requests for an engine's work that the server has in hand at once, waiting ones included; one more gets 503."""
    key_concurrent_requests: Limit = 0
    """Of them, requests of one key, streams or not; one more gets 429. 0 for no limit, as in the next two.

    The three limits of a key hold for every key that has none of its own. Where the server has no keys, everyone
    shares one account."""
    key_requests_per_minute: Limit = 0
    """Requests for an engine's work by one key in a minute; one more gets 429 and the time to wait."""
    key_tokens_per_minute: Limit = 0
    """Tokens of one key in a minute, of prompts (cached ones too) and replies together. They are counted behind the
    reply: a request is admitted while there is one left, whatever it will cost, and pays back before the next one."""


class SessionsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sessions]``"""

    enabled: bool = True
    """False serves every request statelessly: no cookie is set, and ``ark_stateful`` is 400."""
    idle_timeout: Seconds = 1800.0
    """Seconds after its last turn at which a session expires."""
    max_age: Seconds = 86_400.0
    """Seconds after its beginning at which a session expires, however busy; also the cookie's Max-Age."""
    max_sessions: Positive = 10_000
    """Sessions kept at once; one more evicts the least recently used, first those whose cookie never came back."""
    max_bytes: Positive = 256 * 1024 * 1024
    """Bytes of transcript, messages and token ids, kept at once in all sessions; more evicts the same way."""
    max_conversations: Positive = 32
    """Conversations kept in one session; one more drops the session's least recently used."""
    busy_wait: Annotated[float, Meta(ge=0)] = 10.0
    """Seconds a turn waits for another turn of its ``ark_stateful`` session before it gets 409."""
    path: Annotated[str, Meta(min_length=1)] | None = None
    """SQLite file that transcripts are written to when a turn commits, and read from at the start; none by default.

    One server process per file.
    """
    cookie_secure: bool = False
    """Adds ``Secure`` to the cookie: clients return it over HTTPS only."""
    cookie_http_only: bool = False
    """Adds ``HttpOnly`` to the cookie: scripts of a web page cannot read it."""
    cookie_same_site: Literal["lax", "strict", "none"] = "lax"
    """The cookie's ``SameSite``. With ``none`` browsers send it with the requests of other sites' pages as well, and
    want ``cookie_secure``."""
    cookie_path: Annotated[str, Meta(pattern=r"^/[!-:<-~]*\Z", description="a path that begins with /")] = "/"
    """The cookie's ``Path``: clients return it below that only."""
    cookie_domain: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]+\Z", description="the name of a domain")] | None = None
    """The cookie's ``Domain``: clients return it to its subdomains too. Without one, to the host that set it alone."""

    def __post_init__(self) -> None:
        if self.cookie_same_site == "none" and not self.cookie_secure:
            raise ValueError("cookie_same_site is 'none', which browsers take only with cookie_secure")


class KeyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[keys]]``: an API key, kept as the SHA-256 of its text."""

    name: Name
    """Names the key in logs, and owns its sessions."""
    sha256: Sha256
    """Hex digest of the key."""
    models: tuple[Name, ...] | None = None
    """Served models that the key may use; all when it is not set."""
    concurrent_requests: Limit | None = None
    """Its own limit instead of ``key_concurrent_requests`` in ``[limits]``; 0 for none. So are the next two."""
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None

    def may_use(self, model: str) -> bool:
        """Whether the key may use a served model."""
        return self.models is None or model in self.models


class KeysTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of a ``keys_file``."""

    keys: tuple[KeyConfig, ...] = ()


class SamplingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.sampling]``: what a request that does not say gets. Unset fields come from the model's own files."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=2)] | None = None


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[models]]``: one served model."""

    name: Name
    """The name that clients ask for and that GET /models lists."""
    task: Task = "chat"
    backend: Name | None = None
    """Entry point of the group ``ark.backends``, or ``package.module:Class``. When it is not set, the installed
    backends look at the model's files, and the one that fits them best serves it."""
    path: str | None = None
    """A directory, a hub id (``name@revision`` too) or the name of a default model; the model's own name when it is
    not set."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    aliases: tuple[Name, ...] = ()
    """Other names for the same model."""
    context_length: Positive | None = None
    """Tokens of prompt and reply together, or of one input to embed; the model's own when it is not set."""
    max_queue: Positive = 256
    """Jobs that may wait; more get 429."""
    capabilities: Literal["all", "document"] = "all"
    """``document`` narrows the parameters to those of ARK's founding document."""
    tool_format: Literal["hermes", "llama", "mistral", "mistral_args", "qwen_xml"] | None = None
    """How the model writes tool calls; seen from its chat template when it is not set."""
    sampling: SamplingConfig = SamplingConfig()
    dimensions: tuple[Positive, ...] = ()
    """Sizes below its own that an embedding model was trained for: the first so many numbers are a vector too."""
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


def load_config(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration.

    `path` comes first, then ``$ARK_CONFIG``, then ``ark.toml`` in the working directory if there is one. Raises
    ConfigError for a file that is missing or not TOML, and for a field that is unknown or has a bad value.
    """
    environ = os.environ if environ is None else environ
    # An empty variable, as container files write one that is not set, is none.
    chosen = path if path is not None else environ.get("ARK_CONFIG") or None
    if chosen is None and Path("ark.toml").is_file():
        chosen = "ark.toml"
    table: dict[str, Any] = {} if chosen is None else _read_toml(Path(chosen))
    names = ", ".join(_override(table, environ))
    where = f"{chosen} with {names}" if chosen and names else str(chosen or names)
    return _convert(table, Config, where)


def load_keys(path: Path) -> tuple[KeyConfig, ...]:
    """The keys of a file that has nothing else. Raises ConfigError."""
    return _convert(_read_toml(path), KeysTable, str(path)).keys


def _convert(table: dict[str, Any], kind: type[Options], where: str) -> Options:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}{explain(error, kind)}") from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error


_OVERRIDE = re.compile(r"ARK_([A-Z]+)__([A-Z_]+)")


def _override(table: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Put ``ARK_<TABLE>__<FIELD>`` variables into the table; returns the names used."""
    used = []
    for name in sorted(environ):
        match = _OVERRIDE.fullmatch(name)
        if match is None:
            continue
        section, field = match[1].lower(), match[2].lower()
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{name}: [{section}] is not a table")
        inner[field] = _toml_value(environ[name])
        used.append(name)
    return used


def _toml_value(text: str) -> Any:
    """Numbers, booleans and lists as TOML writes them; everything else is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check_names(config: Config, models: Sequence[ModelConfig]) -> None:
    """Check that names are unique and that aliases and keys point at served models. Raises ConfigError."""
    served: set[str] = set()
    for model in models:
        if model.name in served:
            raise ConfigError(f"models: the name {model.name!r} stands twice")
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
            raise ConfigError(f"keys: the name {key.name!r} stands twice")
        if key.sha256.lower() in digests:
            raise ConfigError("keys: two names have the same key")
        names.add(key.name)
        digests.add(key.sha256.lower())
        for model_name in key.models or ():
            if served is not None and model_name not in served:
                raise ConfigError(f"keys: {key.name!r} may use {model_name!r}, which is not served")
