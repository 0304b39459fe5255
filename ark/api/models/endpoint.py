"""GET /models and /models/{id}."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ark.api.request import Request, convert
from ark.config import KeyConfig, Task
from ark.http.response import Response
from ark.models.served import AnyServed, Download, ServedChat
from ark.services import Services


class SamplingDefaults(msgspec.Struct, frozen=True, kw_only=True):
    """The model's own sampling parameters, or those of the configuration."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float


class ModelDetails(msgspec.Struct, frozen=True, kw_only=True):
    """What ARK adds to a model's entry."""

    task: str
    backend: str
    state: Literal["loading", "ready", "failed"]
    download: Download | None = None
    """How much has been downloaded, while the model is."""
    alias_of: str | None
    """The served model that the name stands for, None for a served model itself."""
    aliases: Sequence[str]
    context_length: int | None = None
    """Tokens of prompt and reply together, of one input to embed, or of a query and a document together; None until the
    model is open."""
    reasoning: bool | None = None
    """Whether a chat model thinks before it answers; None until it is open, and for other models."""
    deterministic: bool | None = None
    """Whether a chat model's logits are the same bits whatever is cached and whatever other requests run; None until it
    is open, and if its engine does not say."""
    dimensions: Sequence[int] | None = None
    """Sizes that an embedding model's vectors can have, its own first; None until it is open, and for other models."""
    languages: Sequence[str] | None = None
    """Codes of the languages that a speech model knows; None until it is open, and for other models."""
    sampling: SamplingDefaults | None = None
    """What a request to a chat model gets that says nothing; None until it is open, and for other models."""
    parameters: Sequence[str] | None
    """Request parameters that the model honours; None until it is open."""


class Model(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created: int
    type: Literal["llm", "embeddings", "rerank", "transcription"]
    """What LM Studio calls the task."""
    capabilities: Sequence[str]
    """In the words of LM Studio and llama.cpp. A chat model's have `tool_use` once it is open, if it can call tools."""
    max_model_len: int | None
    """What vLLM calls the context length."""
    ark: ModelDetails
    object: Literal["model"] = "model"
    owned_by: str = "ark"


class ModelList(msgspec.Struct, frozen=True, kw_only=True):
    data: Sequence[Model]
    object: Literal["list"] = "list"


KINDS: Mapping[str, tuple[Literal["llm", "embeddings", "rerank", "transcription"], tuple[str, ...]]] = {
    "chat": ("llm", ("completion",)),
    "embedding": ("embeddings", ("embedding",)),
    "rerank": ("rerank", ("rerank",)),
    "transcription": ("transcription", ("transcription",)),
}
"""Task to type and capabilities."""


class ModelsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the models are listed."""

    # Not None: the text "null" would be as nothing sent.
    task: Task | UnsetType = UNSET
    """All tasks by default."""


async def list_models(request: Request, services: Services) -> Response:
    """The served models and the aliases that the key may use. Raises BadRequest."""
    task = convert(request.query_fields(), ModelsQuery).task
    models = [_entry(name, request.key, services) for name in services.registry.names(request.key)]
    data = [model for model in models if task in (UNSET, model.ark.task)]
    return Response(body=msgspec.json.encode(ModelList(data=data)))


async def get_model(request: Request, services: Services) -> Response:
    """A served model or an alias. Raises ModelNotFound."""
    return Response(body=msgspec.json.encode(_entry(request.param, request.key, services)))


def _entry(name: str, key: KeyConfig | None, services: Services) -> Model:
    served = services.registry.find(name, key)
    backend, capabilities = served.backend, served.capabilities
    details = ModelDetails(
        task=served.config.task,
        backend=served.backend_name,
        state=served.state,
        download=served.download,
        alias_of=None if name == served.name else served.name,
        aliases=served.aliases,
        context_length=getattr(backend, "context_length", getattr(backend, "max_length", None)),
        reasoning=capabilities.reasoning if capabilities is not None and isinstance(served, ServedChat) else None,
        deterministic=None if capabilities is None else capabilities.deterministic,
        dimensions=getattr(backend, "dimensions", None),
        languages=getattr(backend, "languages", None),
        sampling=_sampling(served),
        parameters=None if capabilities is None else sorted(capabilities.parameters),
    )
    kind, abilities = KINDS[served.config.task]
    if "tools" in (details.parameters or ()):
        abilities = (*abilities, "tool_use")
    return Model(
        id=name,
        created=services.created,
        type=kind,
        capabilities=abilities,
        max_model_len=details.context_length,
        ark=details,
    )


def _sampling(served: AnyServed) -> SamplingDefaults | None:
    if not isinstance(served, ServedChat) or served.backend is None:
        return None
    return msgspec.convert(served.default_sampling, SamplingDefaults, from_attributes=True)
