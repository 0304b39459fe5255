"""A route as an operation of the document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from ark.api.audio import endpoint as audio
from ark.api.audio.schema import (
    TextDelta,
    TextDone,
    Transcription,
    TranscriptionRequest,
    TranslationRequest,
    VerboseTranscription,
)
from ark.api.chat import endpoint as chat
from ark.api.chat import stored
from ark.api.chat.schema import (
    ChatRequest,
    Chunk,
    Completion,
    CompletionDeleted,
    CompletionUpdate,
    StoredCompletion,
)
from ark.api.completions import endpoint as completions
from ark.api.completions.schema import CompletionRequest, TextCompletion
from ark.api.conversations import endpoint as conversations
from ark.api.conversations.endpoint import ConversationObject
from ark.api.embeddings import endpoint as embeddings
from ark.api.embeddings.schema import EmbeddingList, EmbeddingRequest
from ark.api.error_body import ErrorReply
from ark.api.messages import endpoint as messages
from ark.api.messages.render import encode_error as messages_error
from ark.api.messages.schema import (
    CountTokensRequest,
    InputTokenCount,
    MessageReply,
    MessagesError,
    MessagesRequest,
)
from ark.api.models import endpoint as models
from ark.api.models.endpoint import Model, ModelList
from ark.api.ops import endpoint as ops
from ark.api.pages import Page
from ark.api.rerank import endpoint as rerank
from ark.api.rerank.schema import RerankReply, RerankRequest, ScoreList, ScoreRequest
from ark.api.responses import endpoint as responses
from ark.api.responses.schema import (
    CompactedResponse,
    InputFields,
    InputTokens,
    ResponseBody,
    ResponseDeleted,
    ResponseRequest,
)
from ark.api.routes import FILES, Route
from ark.api.sessions import endpoint as sessions
from ark.api.sessions.endpoint import SessionDeleted, SessionList, SessionObject
from ark.api.tokens import endpoint as tokens
from ark.errors import (
    APIError,
    BadRequest,
    BodyTooLarge,
    Conflict,
    HeadTooLarge,
    NotFound,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMediaType,
)
from ark.http.forms import MULTIPART
from tools.openapi.docstrings import error_text, text
from tools.openapi.parameters import RATES, STRING
from tools.openapi.schemas import Schema, Schemas

JSON = "application/json"
EVENT_STREAM = "text/event-stream"
TEXT = "text/plain"


class Description(msgspec.Struct, frozen=True):
    """What an operation reads and answers, beside what its route and its endpoint's docstring say."""

    name: str
    """Of the operation; generated clients call their method so."""
    replies: Mapping[str, Any]
    """Media type to the type of a good reply, of server-sent events to that of an event's data; None for plain text."""
    body: type[msgspec.Struct] | None = None
    """What is read of JSON, or of a form beside its `FILES`."""
    query: Sequence[str] = ()
    """The parameters of its query."""
    session: bool = False
    """Serves the session of the client's cookie."""
    errors: Sequence[type[APIError]] = ()
    """What it raises beside what its route implies: a bad body, a missing key, a limit."""


_SPEECH = {JSON: Transcription | VerboseTranscription, EVENT_STREAM: TextDelta | TextDone, TEXT: None}

DESCRIPTIONS: Mapping[Callable[..., Any], Description] = {
    chat.create: Description(
        "createChatCompletion",
        {JSON: Completion, EVENT_STREAM: Chunk},
        body=ChatRequest,
        session=True,
        errors=[NotFound, Conflict],
    ),
    completions.create: Description(
        "createCompletion",
        {JSON: TextCompletion, EVENT_STREAM: TextCompletion},
        body=CompletionRequest,
        errors=[NotFound],
    ),
    stored.list_completions: Description(
        "listChatCompletions", {JSON: Page}, query=["limit", "oldest_first", "after", "model_of", "metadata"]
    ),
    stored.retrieve: Description("retrieveChatCompletion", {JSON: StoredCompletion}, errors=[NotFound]),
    stored.update: Description(
        "updateChatCompletion", {JSON: StoredCompletion}, body=CompletionUpdate, errors=[NotFound]
    ),
    stored.delete: Description("deleteChatCompletion", {JSON: CompletionDeleted}, errors=[NotFound]),
    stored.list_messages: Description(
        "listChatCompletionMessages", {JSON: Page}, query=["limit", "oldest_first", "after"], errors=[NotFound]
    ),
    responses.create: Description(
        "createResponse",
        {JSON: ResponseBody, EVENT_STREAM: dict[str, Any]},
        body=ResponseRequest,
        session=True,
        errors=[NotFound, Conflict],
    ),
    responses.compact: Description(
        "compactResponse", {JSON: CompactedResponse}, body=InputFields, session=True, errors=[NotFound]
    ),
    responses.count_input_tokens: Description(
        "countInputTokens", {JSON: InputTokens}, body=InputFields, errors=[NotFound]
    ),
    responses.retrieve: Description(
        "retrieveResponse",
        {JSON: ResponseBody, EVENT_STREAM: dict[str, Any]},
        query=["stream", "starting_after"],
        errors=[NotFound],
    ),
    responses.cancel: Description("cancelResponse", {JSON: ResponseBody}, errors=[NotFound]),
    responses.delete: Description("deleteResponse", {JSON: ResponseDeleted}, errors=[NotFound]),
    responses.list_input_items: Description(
        "listInputItems", {JSON: Page}, query=["limit", "order", "after"], errors=[NotFound]
    ),
    conversations.create: Description(
        "createConversation", {JSON: ConversationObject}, body=conversations.NewConversation
    ),
    conversations.retrieve: Description("retrieveConversation", {JSON: ConversationObject}, errors=[NotFound]),
    conversations.update: Description(
        "updateConversation", {JSON: ConversationObject}, body=conversations.ConversationUpdate, errors=[NotFound]
    ),
    conversations.delete: Description(
        "deleteConversation", {JSON: conversations.ConversationDeleted}, errors=[NotFound]
    ),
    conversations.list_items: Description(
        "listConversationItems", {JSON: Page}, query=["limit", "order", "after"], errors=[NotFound]
    ),
    conversations.add_items: Description(
        "createConversationItems", {JSON: Page}, body=conversations.ItemsToAdd, errors=[NotFound, Conflict]
    ),
    conversations.retrieve_item: Description("retrieveConversationItem", {JSON: dict[str, Any]}, errors=[NotFound]),
    conversations.delete_item: Description(
        "deleteConversationItem", {JSON: ConversationObject}, errors=[NotFound, Conflict]
    ),
    embeddings.create: Description("createEmbedding", {JSON: EmbeddingList}, body=EmbeddingRequest, errors=[NotFound]),
    rerank.rerank: Description("rerank", {JSON: RerankReply}, body=RerankRequest, errors=[NotFound]),
    rerank.score: Description("score", {JSON: ScoreList}, body=ScoreRequest, errors=[NotFound]),
    audio.transcribe: Description("createTranscription", _SPEECH, body=TranscriptionRequest, errors=[NotFound]),
    audio.translate: Description("createTranslation", _SPEECH, body=TranslationRequest, errors=[NotFound]),
    tokens.tokenize: Description("tokenize", {JSON: tokens.TokenList}, body=tokens.TokenizeRequest, errors=[NotFound]),
    tokens.detokenize: Description(
        "detokenize", {JSON: tokens.TokenText}, body=tokens.DetokenizeRequest, errors=[NotFound]
    ),
    messages.create: Description(
        "createMessage",
        {JSON: MessageReply, EVENT_STREAM: dict[str, Any]},
        body=MessagesRequest,
        session=True,
        errors=[NotFound, Conflict],
    ),
    messages.count_tokens: Description(
        "countMessageTokens", {JSON: InputTokenCount}, body=CountTokensRequest, errors=[NotFound]
    ),
    models.list_models: Description("listModels", {JSON: ModelList}, query=["task"]),
    models.get_model: Description("retrieveModel", {JSON: Model}, errors=[NotFound]),
    sessions.list_sessions: Description("listSessions", {JSON: SessionList}, query=["limit", "after"]),
    sessions.get_session: Description("retrieveSession", {JSON: SessionObject}, errors=[NotFound]),
    sessions.delete_session: Description("deleteSession", {JSON: SessionDeleted}, errors=[NotFound]),
    ops.metrics: Description("getMetrics", {TEXT: None}),
    ops.health: Description("getHealth", {JSON: ops.Health}),
    ops.ready: Description("getReady", {JSON: ops.Ready}, errors=[Unavailable]),
    ops.openapi: Description("getOpenAPI", {JSON: dict[str, Any]}),
}


def operation(path: str, route: Route, schemas: Schemas) -> dict[str, Any]:
    """What the document says of one method of a path."""
    summary, _, more = text(route.endpoint).partition("\n\n")
    own = DESCRIPTIONS[route.endpoint]
    resource = route.endpoint.__module__.split(".")[-2]
    described: dict[str, Any] = {
        "operationId": own.name,
        "tags": ["operations" if resource == "ops" else resource],
        "summary": " ".join(summary.split()),
    }
    if more:
        described["description"] = more
    described["parameters"] = [_reference("parameters", name) for name in _parameters(path, own)]
    if own.body is not None:
        json = route.reads == "json"
        content = (
            {JSON: {"schema": schemas.of(own.body)}} if json else {MULTIPART: {"schema": _form(own.body, schemas)}}
        )
        described["requestBody"] = {"required": True, "content": content}
    good = {
        "description": "The reply.",
        "headers": _headers(_reply_headers(route, own)),
        "content": {media: {"schema": _content(media, kind, schemas)} for media, kind in own.replies.items()},
    }
    described["responses"] = {"200": good} | {
        str(kind.status): _reference("responses", error_name(route, kind)) for kind in errors(route)
    }
    if route.open:
        described["security"] = []
    return described


def errors(route: Route) -> list[type[APIError]]:
    """The errors that a route can answer with, by status: those of every route, and what its fields imply."""
    kinds = {BadRequest, RequestTimeout, BodyTooLarge, HeadTooLarge, APIError, Unavailable}
    kinds.update(DESCRIPTIONS[route.endpoint].errors)
    if not route.open:
        kinds.add(Unauthorized)
    if route.reads is not None:
        kinds.add(UnsupportedMediaType)
    if route.work:
        kinds.add(TooManyRequests)
    return sorted(kinds, key=lambda kind: kind.status)


def error_name(route: Route, kind: type[APIError]) -> str:
    """What the document calls a reply of a route with an error."""
    return kind.__name__ if error_type(route) is ErrorReply else f"Messages{kind.__name__}"


def error_type(route: Route) -> type[msgspec.Struct]:
    """The body of a route's errors."""
    return MessagesError if route.encode_error is messages_error else ErrorReply


def error_response(kind: type[APIError], body: type[msgspec.Struct], schemas: Schemas) -> dict[str, Any]:
    """A reply with an error."""
    names = ["x-request-id"]
    if kind in (TooManyRequests, Unavailable):
        names += [*RATES, "retry-after", "retry-after-ms"]
    return {
        "description": error_text(kind) or f"{HTTPStatus(kind.status).phrase}.",
        "headers": _headers(names),
        "content": {JSON: {"schema": schemas.of(body)}},
    }


def _parameters(path: str, own: Description) -> Iterator[str]:
    yield from re.findall(r"\{(\w+)\}", path)
    yield from own.query
    if own.session:
        yield "cookie"
    yield "request_id"


def _reply_headers(route: Route, own: Description) -> Iterator[str]:
    yield "x-request-id"
    if route.work:
        yield "x-ark-ignored"
    if own.session:
        yield from ("set-cookie", "x-ark-session", "x-ark-cached-tokens")
    if route.work:
        yield from RATES


def _headers(names: Iterator[str] | list[str]) -> dict[str, Any]:
    return {name: _reference("headers", name) for name in names}


def _form(kind: type[msgspec.Struct], schemas: Schemas) -> Schema:
    """The fields of a form and its files, in one object: few tools look for a form's fields behind references."""
    fields = schemas.components[kind.__name__]
    files = {name: {"type": "string", "contentMediaType": "application/octet-stream"} for name in sorted(FILES)}
    return fields | {"properties": fields["properties"] | files, "required": [*fields["required"], *files]}


def _content(media: str, kind: Any, schemas: Schemas) -> Schema:
    if kind is None:
        return STRING
    if media == EVENT_STREAM:
        return {
            "type": "string",
            "description": "Server-sent events. The data of each is JSON; the last one's is `[DONE]`, except of "
            "`/responses`. An error in the middle is an event of its own, and the last.",
            "contentMediaType": media,
            "contentSchema": schemas.of(kind),
        }
    return schemas.of(kind)


def _reference(section: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{section}/{name}"}
