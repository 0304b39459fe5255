"""The program that tries out grammars: `ark_backends.kit.grammar_check` in a child process.

It is sent a grammar as JSON (`CHECK`) and answers with the grammar that can be kept to and the seconds of CPU that it
took (`ACCEPTED`), or with what is wrong (`REFUSED`).
"""

from __future__ import annotations

import resource
import time

import msgspec

from ark_backends.kit.sandbox import MEGABYTE, Channel, limit_cpu, serve

CHECK, ACCEPTED, REFUSED = b"C", b"A", b"R"

CPU_SECONDS = 5.0
"""What one grammar may take here, and hardly more in the server. Schemas that people write take 0.1 s at most."""

MEMORY = 192 * MEGABYTE
"""What one may add to the process, and hardly more to the server."""

STACK = 8 * MEGABYTE
"""Of the thread that compiles here. The server's has four times as much, so that what ends well here does there."""


class Request(msgspec.Struct):
    lark: str
    schemas: list[tuple[str, str]]


class Accepted(msgspec.Struct):
    lark: str
    seconds: float


class Refusal(msgspec.Struct):
    param: str | None
    path: list[str]
    reason: str


def main() -> None:
    from ark_backends.kit.grammar_check import GrammarChecker, Refused  # noqa: PLC0415 - not in the server

    resource.setrlimit(resource.RLIMIT_STACK, (STACK, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    checker, decoder = GrammarChecker(), msgspec.json.Decoder(Request)

    def handle(channel: Channel) -> None:
        request = decoder.decode(channel.receive()[1])
        started = time.process_time()
        limit_cpu(started + CPU_SECONDS)
        try:
            lark = checker.check(request.lark, request.schemas)
        except Refused as error:
            channel.send(REFUSED, msgspec.json.encode(Refusal(error.param, list(error.path), error.reason)))
        except RecursionError:
            channel.send(REFUSED, msgspec.json.encode(Refusal(None, [], "a schema is nested too deeply")))
        else:
            channel.send(ACCEPTED, msgspec.json.encode(Accepted(lark, time.process_time() - started)))

    serve(handle, memory=MEMORY)


if __name__ == "__main__":
    main()
