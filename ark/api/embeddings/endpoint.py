"""POST /embeddings."""

from __future__ import annotations

import msgspec

from ark.api.embeddings import openai_ids, render
from ark.api.embeddings.schema import EmbeddingRequest
from ark.api.inputs import Inputs, read_inputs
from ark.api.request import Request, decode, ignored_header
from ark.concurrency import run_in_thread, run_in_thread_if_large
from ark.config import LimitsConfig
from ark.engines.embedding import EmbeddingBackend, EmbeddingJob
from ark.errors import APIError, invalid_value
from ark.http.response import Response
from ark.models.served import ServedEmbedding
from ark.services import Services

_decoder = msgspec.json.Decoder(EmbeddingRequest)


async def create(request: Request, services: Services) -> Response:
    """The vectors of one input or of many."""
    limits = services.config.limits
    body, inputs = await run_in_thread_if_large(len(request.body), lambda: _read(request.body, limits))
    served = services.registry.find_for(ServedEmbedding, body.model, request.key)
    record = request.record.begin("embeddings", served.name, body, meters=services.metrics.requests.models)
    backend = await served.ready()
    ignored = served.check(body)
    dimensions = _dimensions(body, backend)
    if body.model in openai_ids.NAMES and not isinstance(inputs.items[0], str):
        known = inputs
        inputs = await run_in_thread(lambda: openai_ids.decode(known, body.model, served.name))
    job = EmbeddingJob(
        request_id=request.id,
        inputs=inputs.items,
        owner=request.owner,
        truncate=bool(body.ark_truncate),
        dimensions=dimensions,
        sparse=bool(body.ark_sparse) and "ark_sparse" not in ignored,
        colbert=bool(body.ark_colbert) and "ark_colbert" not in ignored,
    )
    record.ask()
    try:
        embeddings = await backend.embed(job)
    except APIError as error:
        inputs.rename_param(error)
        raise
    tokens = render.tokens(embeddings)
    record.finish(prompt_tokens=tokens)
    request.spend(tokens)
    record.logged = {"inputs": len(embeddings), "prompt_tokens": tokens}
    base64 = body.encoding_format == "base64"
    rendered = await run_in_thread_if_large(
        render.size(embeddings), lambda: render.reply(body.model, embeddings, base64=base64)
    )
    return Response(body=rendered, headers=ignored_header(ignored))


def _read(raw: bytes, limits: LimitsConfig) -> tuple[EmbeddingRequest, Inputs]:
    body = decode(_decoder, raw, limits)
    return body, read_inputs(body.input)


def _dimensions(body: EmbeddingRequest, backend: EmbeddingBackend) -> int:
    """The size of the vectors. Raises BadRequest for one that the model was not trained for, naming those it was."""
    sizes = backend.dimensions
    if body.dimensions is None:
        return sizes[0]
    if body.dimensions not in sizes:
        known = ", ".join(map(str, sizes))
        reason = f"the model '{body.model}' has vectors of {known} numbers, not {body.dimensions}."
        raise invalid_value("dimensions", reason)
    return body.dimensions
