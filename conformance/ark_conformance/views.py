"""One reply as plain values, which the paths of checks lead into.

=========================  =========================================================================================
``status``, ``headers``    of the HTTP reply; ``cookies`` are the ``set-cookie`` headers as they came
``body``                   the body's text
``reply``                  the body's JSON; for a stream of chat chunks, what they add up to
``parsed``                 the reply as OpenAI's client parses it (embeddings from base64, text of a transcription)
``stream``                 ``events``, ``chunks``, ``text`` (of the first choice, or of a transcript's pieces), ``said``
                           (of events that are text), ``order`` (of all events), ``orders`` (of each choice's),
                           ``of`` (events by type, as ``of.output_text_delta``), ``deltas`` (the texts of such types,
                           as ``deltas.output_text``), ``done``, ``comments``
``error``                  ``class``, ``status``, ``type``, ``code``, ``param``, ``message``, ``request_id``
=========================  =========================================================================================

An order is words separated by spaces: ``role content content finish usage done``.
"""

from __future__ import annotations

import json
from typing import Any

import openai

from ark_conformance.streamed_reply import accumulate, by_type, order, orders
from ark_conformance.wire import Event, Exchange, read_events


def view(exchange: Exchange | None, parsed: Any, error: BaseException | None) -> dict[str, Any]:
    """One reply as plain values, as the module describes them."""
    seen: dict[str, Any] = {}
    if exchange is not None and exchange.status:
        seen = {
            "status": exchange.status,
            "headers": {name: exchange.header(name) for name, _ in exchange.headers},
            "cookies": [value for name, value in exchange.headers if name == "set-cookie"],
            "body": exchange.text,
        }
        if exchange.is_stream:
            seen["stream"] = stream_view(exchange)
            seen["reply"] = accumulate(seen["stream"]["chunks"])
        else:
            seen["reply"] = exchange.json()
    if parsed is not None:
        seen["parsed"] = parsed
    if error is not None:
        seen["error"] = error_view(error)
    return seen


def stream_view(exchange: Exchange) -> dict[str, Any]:
    events, comments = read_events(exchange.text)
    chunks = [value for event in events if isinstance(value := _json(event), dict)]
    whole = accumulate(chunks)
    choices = whole.get("choices") or [{}]
    of = by_type(chunks)
    deltas = {
        kind.removesuffix("_delta"): "".join(str(event.get("delta", "")) for event in found)
        for kind, found in of.items()
        if kind.endswith("_delta")
    }
    said = deltas.get("transcript_text") or deltas.get("output_text", "")
    return {
        "events": [{"event": event.event, "data": event.data} for event in events],
        "chunks": chunks,
        "text": choices[0].get("message", {}).get("content") or said,
        "said": "".join(
            event.data for event in events if not isinstance(_json(event), dict) and event.data != "[DONE]"
        ),
        "order": " ".join(word for event in events for word in order(event.data, _json(event))),
        "orders": orders(chunks),
        "of": of,
        "deltas": deltas,
        "done": bool(events) and events[-1].data.strip() == "[DONE]",
        "complete": exchange.complete,
        "comments": comments,
    }


def error_view(error: BaseException) -> dict[str, Any]:
    seen: dict[str, Any] = {"class": type(error).__name__, "message": str(error)}
    if isinstance(error, openai.APIError):
        seen |= {"message": error.message, "type": error.type, "code": error.code, "param": error.param}
    if isinstance(error, openai.APIStatusError):
        seen |= {"status": error.status_code, "request_id": error.request_id}
    return seen


def _json(event: Event) -> Any:
    try:
        return json.loads(event.data)
    except ValueError:
        return None
