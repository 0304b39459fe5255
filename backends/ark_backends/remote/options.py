"""The options of engines elsewhere, ``[models.engine]``."""

from __future__ import annotations

import re
import ssl
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ark.config import ConfigError

Seconds = Annotated[float, Meta(gt=0)]

_URL = re.compile(r"https?://[^/?#\s]+[^?#\s]*")


class RemoteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``remote``."""

    url: str | list[str]
    """Where the engine listens, such as ``http://gpu-1:8000``; or a list, of engines that serve the same model."""
    server: Literal["auto", "vllm", "sglang", "llama.cpp"] = "auto"
    """The kind of engine. ``auto`` asks it."""
    model: str | None = None
    """The model's name at the engine. By default the first one that the engine lists."""
    api_key_env: str | None = None
    """The environment variable that holds the engine's API key."""
    tokenizer_check: Literal["text", "ids"] = "text"
    """What has to agree before ARK uses an engine. ``text``: the ids of texts. ``ids``: the texts of ids alone, for an
    engine that is known to cut texts otherwise than the model has learned; ARK does that for it."""
    languages: list[str] = []
    """Codes of the languages that a speech model knows. By default those of Whisper's multilingual models."""
    ca_file: str | None = None
    """PEM file of the authorities that signed the engines' certificates. By default the system's."""
    client_certificate: str | None = None
    """PEM file with a certificate and its key, for engines that ask for one."""
    connect_timeout: Seconds = 5.0
    """Seconds for a connection to an engine."""
    read_timeout: Seconds = 300.0
    """Seconds of silence after which an engine counts as failed. The longest prompt has to be read in that time."""
    open_timeout: Annotated[float, Meta(ge=0)] = 60.0
    """Seconds that opening the model waits for the first engine to answer."""
    health_seconds: Seconds = 5.0
    """Seconds between two checks of an engine. One that fails is asked at growing intervals, of a minute at most."""
    prefix_cache: bool = True
    """Let llama.cpp reuse the state of earlier requests. It has no salt, so that it reuses it across owners: how long
    an answer takes may tell one owner what another one has asked. vLLM and SGLang keep owners apart."""
    priority: bool = False
    """Let turns of conversations that go on pass others, by the engine's own priorities. vLLM needs
    ``--scheduling-policy priority``, SGLang ``--enable-priority-scheduling``."""

    def __post_init__(self) -> None:
        for url in self.urls or [""]:
            if _URL.fullmatch(url) is None:
                raise ValueError(f"url has {url!r}, which is no URL such as http://gpu-1:8000")

    @property
    def urls(self) -> list[str]:
        urls = [self.url] if isinstance(self.url, str) else self.url
        return [url.rstrip("/") for url in urls]

    def tls(self) -> ssl.SSLContext | bool:
        """What httpx2 takes as `verify`. Raises ConfigError."""
        if not any(url.startswith("https:") for url in self.urls):
            # There is nothing to verify, and it takes long to read the system's authorities.
            return False
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.client_certificate is not None:
                context.load_cert_chain(self.client_certificate)
        except OSError as error:
            raise ConfigError(f"ca_file or client_certificate cannot be used: {error}") from error
        return context
