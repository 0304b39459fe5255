"""Connections of ``ark serve``: hypercorn's, but that a client whose head comes too slowly is told so."""

from __future__ import annotations

import logging
import uuid

from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.protocol.h11 import H11Protocol

from ark.errors import RequestTimeout
from ark.schemas.errors import encode_error

log = logging.getLogger("ark.app")


class Connection(TCPServer):
    """One connection. Hypercorn closes it after the time for a head, and has no say for what it tells the client."""

    async def _initiate_server_close(self) -> None:
        # One that sent nothing is idle, and wants no reply; and a server that stops has not waited the whole time.
        if self._head_has_begun() and not self.context.terminated.is_set():
            request_id = f"req_{uuid.uuid4().hex}"
            self.writer.write(_reply(request_id))
            fields = {"request_id": request_id, "status": RequestTimeout.status, "error": RequestTimeout.code}
            log.info("slow head", extra={"fields": fields})
        await super()._initiate_server_close()

    def _head_has_begun(self) -> bool:
        protocol = self.protocol.protocol
        return (
            isinstance(protocol, H11Protocol)
            and protocol.stream is None
            and protocol.connection.trailing_data[0] != b""
        )


def _reply(request_id: str) -> bytes:
    body = encode_error(RequestTimeout("The request's head came too slowly."))
    head = (
        "HTTP/1.1 408 Request Timeout\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\nx-request-id: {request_id}\r\n\r\n"
    )
    return head.encode() + body


def use() -> None:
    """Have hypercorn serve this process' connections so. It has no setting for it."""
    run.TCPServer = Connection  # type: ignore[attr-defined]
