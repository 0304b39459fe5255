"""POST /rerank and POST /score."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import msgspec

from ark.api.inputs import check_count
from ark.api.request import Request, decode_body, ignored_header
from ark.api.rerank.schema import (
    Document,
    RerankReply,
    RerankRequest,
    RerankResult,
    RerankUsage,
    ScoreList,
    ScoreObject,
    ScoreRequest,
)
from ark.concurrency import run_in_thread_if_large
from ark.engines.rerank import RerankJob
from ark.errors import APIError, invalid_value
from ark.http.response import Response
from ark.models.served import ServedRerank
from ark.services import Services

_rerank_decoder = msgspec.json.Decoder(RerankRequest)
_score_decoder = msgspec.json.Decoder(ScoreRequest)


async def rerank(request: Request, services: Services) -> Response:
    """Documents in the order in which they answer a query."""
    body = await decode_body(_rerank_decoder, request.body, services.config.limits)
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    check_count(texts, "documents")
    job = RerankJob(
        request_id=request.id,
        pairs=[(body.query, text) for text in texts],
        owner=request.owner,
        max_tokens=body.max_tokens_per_doc,
        max_chunks=body.max_chunks_per_doc or 1,
    )
    scores, usage, ignored = await _compute(request, services, body, job, "documents")
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    results = [
        RerankResult(
            index=index,
            relevance_score=scores[index],
            document=Document(text=texts[index]) if body.return_documents else msgspec.UNSET,
        )
        for index in best
    ]
    reply = RerankReply(id=request.id, results=results, model=body.model, usage=usage)
    size = len(request.body) if body.return_documents else 0
    rendered = await run_in_thread_if_large(size, lambda: msgspec.json.encode(reply))
    return Response(body=rendered, headers=ignored_header(ignored))


async def score(request: Request, services: Services) -> Response:
    """How well texts answer one query, or each its own."""
    body = await decode_body(_score_decoder, request.body, services.config.limits)
    queries = [body.text_1] if isinstance(body.text_1, str) else body.text_1
    texts = [body.text_2] if isinstance(body.text_2, str) else body.text_2
    check_count(texts, "text_2")
    if len(queries) == 1:
        queries = queries * len(texts)
    if len(queries) != len(texts):
        reason = f"there are {len(queries)}, and {len(texts)} in 'text_2'; send one, or as many."
        raise invalid_value("text_1", reason)
    job = RerankJob(request_id=request.id, pairs=list(zip(queries, texts, strict=True)), owner=request.owner)
    scores, usage, ignored = await _compute(request, services, body, job, "text_2")
    data = [ScoreObject(index=index, score=one) for index, one in enumerate(scores)]
    reply = ScoreList(id=request.id, created=int(time.time()), data=data, model=body.model, usage=usage)
    return Response(body=msgspec.json.encode(reply), headers=ignored_header(ignored))


async def _compute(
    request: Request, services: Services, body: RerankRequest | ScoreRequest, job: RerankJob, param: str
) -> tuple[Sequence[float], RerankUsage, Sequence[str]]:
    """The scores of a job, what they took, and the parameters that were ignored. `param` has the documents."""
    served = services.registry.find_for(ServedRerank, body.model, request.key)
    record = request.record.begin("rerank", served.name, body, meters=services.metrics.requests.models)
    backend = await served.ready()
    ignored = served.check(body)
    record.ask()
    try:
        found = await backend.rerank(job)
    except APIError as error:
        if error.param is not None:
            error.message = error.message.replace("documents[", f"{param}[")
            error.param = error.param.replace("documents[", f"{param}[")
        raise
    tokens = sum(one.tokens for one in found)
    record.finish(prompt_tokens=tokens)
    request.spend(tokens)
    record.logged = {"documents": len(found), "prompt_tokens": tokens}
    scores = [one.score if body.raw_scores else _sigmoid(one.score) for one in found]
    return scores, RerankUsage(prompt_tokens=tokens, total_tokens=tokens), ignored


def _sigmoid(value: float) -> float:
    # The larger of two powers may be too large for a float.
    small = math.exp(-abs(value))
    return 1 / (1 + small) if value >= 0 else small / (1 + small)
