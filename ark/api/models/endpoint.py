"""GET /models and /models/{id}."""

from __future__ import annotations

import msgspec

from ark.api.models.schema import Model, ModelDetails, ModelList
from ark.api.request import Request
from ark.config import KeyConfig
from ark.http.response import Response
from ark.models.registry import AnyServed
from ark.models.served import ServedChat, ServedTranscription
from ark.services import Services

_encoder = msgspec.json.Encoder()


async def list_models(request: Request, services: Services) -> Response:
    """Every served model and every alias that the key may use."""
    key = request.key
    names = services.registry.names(key)
    return Response(body=_encoder.encode(ModelList(data=[_entry(name, key, services) for name in names])))


async def get_model(request: Request, services: Services) -> Response:
    """A served model or an alias. Raises ModelNotFound."""
    return Response(body=_encoder.encode(_entry(request.param, request.key, services)))


def _entry(name: str, key: KeyConfig | None, services: Services) -> Model:
    served = services.registry.find(name, key)
    return Model(id=name, created=services.created, ark=_details(name, served))


def _details(name: str, served: AnyServed) -> ModelDetails:
    capabilities = served.capabilities
    details = ModelDetails(
        task=served.config.task,
        backend=served.backend_name,
        state=served.state,
        alias_of=None if name == served.name else served.name,
        aliases=served.aliases,
        parameters=None if capabilities is None else sorted(capabilities.parameters),
    )
    if isinstance(served, ServedChat):
        return msgspec.structs.replace(
            details,
            context_length=None if served.backend is None else served.backend.context_length,
            reasoning=None if capabilities is None else capabilities.reasoning,
        )
    if isinstance(served, ServedTranscription):
        return msgspec.structs.replace(details, languages=None if served.backend is None else served.backend.languages)
    return msgspec.structs.replace(
        details,
        context_length=None if served.backend is None else served.backend.max_length,
        dimensions=None if served.backend is None else served.backend.dimensions,
    )
