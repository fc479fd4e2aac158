"""The life of one worker process: start, serve, end.

Owns the order of that life. Its parts are put together in `assembly`; how it ends is in `shutdown`. Decides
nothing about a task.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket

from streamq.options.service import WorkerOptions
from streamq.probes.report import Report
from streamq.shards import AppRecord
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.wording import shortened
from streamq.worker.assembly import Parts, assemble
from streamq.worker.config import WorkerConfig
from streamq.worker.loading import App, served_types
from streamq.worker.registration import Registration
from streamq.worker.shutdown import Shutdown
from streamq.worker.status import not_started
from streamq.worker.stop import StopState


class Worker:
    """Runs an app's tasks in this process and event loop.

    `await worker.run()` serves until `stop()`; `ready` is set when it has begun to take tasks.
    `exclusive`: the process is ours, so it may be ended where nothing else helps. `metered`: add up what
    every task takes, for `report`.
    """

    def __init__(
        self,
        app: App,
        options: WorkerOptions | None = None,
        *,
        group: str = "",
        exclusive: bool = False,
        metered: bool = False,
    ):
        options = options or WorkerOptions()
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        types, transport = served_types(app.registry, options), AsyncTransport(app.address)
        registration = Registration(transport, app.registry, types, name)
        self._given = WorkerConfig(
            name,
            group,
            app.registry,
            types,
            options,
            app.address,
            transport,
            registration,
            Counters(),
            StopState(),
            exclusive,
            metered,
        )
        self._stop = self._given.stop
        self._parts: Parts | None = None
        self.ready: asyncio.Event = asyncio.Event()
        self._log = logs.get_logger(worker=name)

    @property
    def name(self) -> str:
        """Its name in heartbeats, in the log and as a consumer."""
        return self._given.name

    @property
    def options(self) -> WorkerOptions:
        return self._given.options

    @property
    def drained(self) -> bool:
        """Whether an operator asked for its end."""
        return self._stop.drained

    @property
    def worn_out(self) -> bool:
        """Whether it ended since handlers that could not be stopped had taken its slots."""
        return self._stop.worn_out

    @property
    def parts(self) -> Parts:
        """What it is made of; RuntimeError before it has met its server."""
        if self._parts is None:
            raise RuntimeError("this worker has not met its server yet: wait for `ready`")
        return self._parts

    def stop(self) -> None:
        """Take no more tasks and end when those in hand are done; called again: end now, hand back."""
        self._stop.ask()

    def report(self) -> Report:
        """How this worker is, and what it has added up; called in another thread, by a supervisor."""
        parts = self._parts
        if parts is None:
            return not_started(self.name, self._given.counters)
        return parts.status.report(started=self.ready.is_set(), draining=self._stop.asked.is_set())

    async def run(self) -> None:
        """Serve until stopped; a server that is not there yet is waited for. Raises UsageErrors and the
        RedisErrors of a server that refuses us, at the start only.

        However it ends, by `stop()`, cancellation or an error, what is in hand is finished or handed back.
        """
        for name in self._given.types:
            self._given.registry.handlers[name].prepare()
        record = await self._announced()
        if record is None:
            return
        try:
            parts = self._parts = assemble(self._given, record.known, asyncio.current_task())
        except BaseException:
            await self._given.transport.aclose()
            raise
        shutdown = Shutdown(self._given, parts, self._log)
        try:
            await self._serve_until_stopped(parts, shutdown, record.known)
            await shutdown.drain()
        except GeneratorExit:  # the loop is gone: nothing can be waited for any more
            parts.leases.stop()
            raise
        except BaseException as error:
            self._log.warning("worker.interrupted", error=type(error).__name__)
            await shutdown.end(shutdown.hand_back)
            raise
        await shutdown.end()

    async def _announced(self) -> AppRecord | None:
        """None where we are stopped before the server is there."""
        try:
            record = await self._given.registration.announce(self._stop.asked)
        except BaseException:
            await self._given.transport.aclose()
            raise
        if record is None:
            await self._given.transport.aclose()
            self._log.info("worker.stopped")
        return record

    async def _serve_until_stopped(self, parts: Parts, shutdown: Shutdown, shards: int) -> None:
        parts.runner.start()
        parts.leases.start()
        settling = shutdown.settle()
        shutdown.helpers.append(asyncio.create_task(shutdown.halt()))
        await parts.shard_fetchers.serve(shards)
        shutdown.helpers.append(asyncio.create_task(parts.status.beat()))
        if self._given.exclusive:
            _spare_collector()
        logs.always(
            "worker.ready",
            worker=self.name,
            types=shortened(self._given.types),
            concurrency=self.options.concurrency,
        )
        self.ready.set()
        await self._until_stopped(parts, shutdown, settling)

    async def _until_stopped(self, parts: Parts, shutdown: Shutdown, settling: asyncio.Task[None]) -> None:
        """Until told to stop, or until a loop ends that should not: a worker that does not settle would
        keep its tasks for ever."""
        waiting = [
            asyncio.create_task(event.wait()) for event in (self._stop.asked, parts.shard_fetchers.failed)
        ]
        shutdown.helpers += waiting
        await asyncio.wait([settling, *waiting], return_when=asyncio.FIRST_COMPLETED)
        if settling.done() and not settling.cancelled() and (error := settling.exception()) is not None:
            self._log.critical("worker.failed", error=repr(error), exc_info=error)


def _spare_collector() -> None:
    """Keep the garbage collector from going through all modules again and again: with a thousand tasks in
    hand a full collection held up the event loop for 40 ms."""
    gc.freeze()
    gc.enable()
