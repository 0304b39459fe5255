"""Responses that are made while nobody waits for them."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

import anyio

from ark.api.responses.render import Event
from ark.api.responses.run import ResponseRunner
from ark.errors import APIError

log = logging.getLogger("ark.responses")

KEPT_SECONDS = 300.0
"""How long the events of a response that has ended can still be asked for; the next is of how many."""
KEPT_RUNS = 64


class BackgroundRun:
    """One of them, and its events from the first on."""

    def __init__(self, runner: ResponseRunner) -> None:
        self.runner = runner
        self.events: list[Event] = [*runner.renderer.queue()]
        self.done = False
        self._ended = anyio.Event()
        self._more = anyio.Event()
        self._scope = anyio.CancelScope()
        # The request is answered at once, and counted then: what the engine does for it is counted at the end.
        record = runner.request.record
        self._record = replace(record)
        record.job = None

    async def start(self) -> None:
        """Begin, when the response can be asked for."""
        tasks = self.runner.services.tasks
        assert tasks is not None
        await self.runner.keep_unfinished()
        _runs(self.runner)[self.runner.asked.owner, self.runner.renderer.body.id] = self
        tasks.start_soon(self._run)

    async def cancel(self) -> None:
        """Returns when the response has ended."""
        self._scope.cancel()
        await self._ended.wait()

    async def follow(self, after: int) -> AsyncGenerator[Event, None]:
        """The events behind the one with this number, until the last one."""
        number = after + 1
        while True:
            while number < len(self.events):
                yield self.events[number]
                number += 1
            if self.done:
                return
            await self._more.wait()

    async def _run(self) -> None:
        runner = self.runner
        services, renderer = runner.services, runner.renderer
        ended = False
        try:
            with self._scope, services.limiter.hold(runner.request.key):
                await self._collect()
                ended = True
            if not ended:
                renderer.cancel()
        except Exception as error:  # noqa: BLE001 - told by the response
            public = _public(error)
            self._record.fail(public)
            self._add(renderer.fail(public))
        except BaseException:
            # The server stops.
            renderer.fail(APIError("The server was stopped."))
            raise
        finally:
            with anyio.CancelScope(shield=True):
                if not ended:
                    await runner.keep_unfinished()
            self.done = True
            self._ended.set()
            self._add([])
            self._note()
        runs = _runs(runner)
        done = [name for name, run in runs.items() if run.done]
        for name in done[:-KEPT_RUNS]:
            del runs[name]
        await anyio.sleep(KEPT_SECONDS)
        runs.pop((runner.asked.owner, renderer.body.id), None)

    def _note(self) -> None:
        """The response is over: into the log, the metrics and the traces."""
        record, services, body = self._record, self.runner.services, self.runner.renderer.body
        record.end(status=200, disconnected=body.status == "cancelled", error=None)
        services.metrics.requests.add_job(record)
        if services.tracer is not None:
            services.tracer.add(record)
        fields = {"request_id": record.id, "response": body.id, "status": body.status, **self.runner.work.logged}
        fields |= {"model": self.runner.work.model, "seconds": round(record.ended - record.begun, 4)}
        log.info("response in the background", extra={"fields": fields})

    async def _collect(self) -> None:
        async with aclosing(self.runner.events_of_response()) as events:
            async for event in events:
                self._add([event])

    def _add(self, events: list[Event]) -> None:
        self.events += events
        self._more.set()
        self._more = anyio.Event()


def _runs(runner: ResponseRunner) -> dict[tuple[str, str], BackgroundRun]:
    runs: dict[tuple[str, str], BackgroundRun] = runner.services.background
    return runs


def _public(error: Exception) -> APIError:
    if isinstance(error, APIError):
        return error
    log.error("a response in the background failed", exc_info=error)
    return APIError("The server had an unexpected error.")
