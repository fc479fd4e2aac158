"""The lifecycle of a worker: start, serve, stop.

Owns the order of these phases. The parts are built in `assembly`, and stopped in `shutdown`. Must not decide
about a task.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import socket

from streamq.errors import UsageError
from streamq.options.service import WorkerOptions
from streamq.probes.report import Report
from streamq.resources.opened import OpenResources
from streamq.shards import AppRecord
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.wording import shortened
from streamq.worker import live_logs, main_guard, monkey_patches
from streamq.worker.assembly import Parts, assemble
from streamq.worker.blob_sweeper import BlobSweeper
from streamq.worker.config import WorkerConfig
from streamq.worker.loading import App
from streamq.worker.registration import Registration
from streamq.worker.self_stop import can_measure, stop_when_empty
from streamq.worker.served_types import served_types
from streamq.worker.shutdown import Shutdown
from streamq.worker.status import starting_report
from streamq.worker.stop import StopState


class Worker:
    """Runs an app's tasks in this process and event loop.

    `await worker.run()` serves until `stop()`; `ready` is set when the worker has started to fetch tasks,
    `recycle` when a supervisor should replace the process.
    `exclusive`: the worker owns its process and may kill it as a last resort. `metered`: collect metrics of
    every task, for `report`.
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
        monkey_patches.refuse()
        main_guard.refuse()
        options = options or WorkerOptions()
        if options.recycle_rss is not None and not can_measure():
            raise UsageError("recycle_rss: the size of a process cannot be read here: it needs /proc")
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        types, transport = served_types(app.registry, options), AsyncTransport(app.address)
        if any(handler.options.logs for handler in app.registry.handlers.values()):
            live_logs.install()
        registration = Registration(transport, app.registry, types, name)
        self._config = WorkerConfig(
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
            OpenResources(app.registry.resources, options.lifespan_timeout),
            exclusive,
            metered,
        )
        self._stop = self._config.stop
        self._parts: Parts | None = None
        self.ready: asyncio.Event = asyncio.Event()
        self.recycle: asyncio.Event = self._stop.recycle
        self._log = logs.get_logger(worker=name)

    @property
    def name(self) -> str:
        """Return the worker's name in heartbeats, in the log and as a consumer."""
        return self._config.name

    @property
    def options(self) -> WorkerOptions:
        """Return the worker's options."""
        return self._config.options

    @property
    def drained(self) -> bool:
        """Return whether an operator requested the stop."""
        return self._stop.drained

    @property
    def worn_out(self) -> bool:
        """Return whether the worker stopped because stuck handlers occupied its slots."""
        return self._stop.worn_out

    @property
    def parts(self) -> Parts:
        """Return the worker's parts. Raise RuntimeError before it has registered with Redis."""
        if self._parts is None:
            raise RuntimeError("the worker has no parts yet: wait for `ready`")
        return self._parts

    def stop(self) -> None:
        """Stop fetching, and end when the tasks in flight are done. A second call hands them back at once."""
        self._stop.request()

    def report(self) -> Report:
        """Return the worker's health and metrics. Called in another thread, for a supervisor."""
        parts = self._parts
        if parts is None:
            return starting_report(self.name, self._config.counters)
        return parts.status.report(started=self.ready.is_set(), draining=self._stop.requested.is_set())

    async def run(self) -> None:
        """Serve until stopped. Wait for Redis if it is not reachable yet. Raise UsageError, and RedisError if
        Redis refuses the worker, at the start only.

        However it ends, by `stop()`, cancellation or an error, tasks in flight are finished or handed back.
        The app's lifespan is around all of it.
        """
        handlers = [self._config.registry.handlers[name] for name in self._config.types]
        for handler in handlers:
            handler.prepare()
        opened = self._config.opened
        if not any(handler.is_wrapped for handler in handlers):
            await self._run()
        elif await opened.open_until(self._stop.requested, [handler.plan for handler in handlers]):
            try:
                await self._run()
            except GeneratorExit:  # the event loop has ended: nothing can be awaited
                raise
            except BaseException:
                await opened.close_anyway()
                raise
            await opened.close_anyway()
        else:
            await self._config.transport.aclose()
            self._log.info("worker.stopped")

    async def _run(self) -> None:
        record = await self._announce()
        if record is None:
            return
        try:
            parts = self._parts = assemble(self._config, record.known, asyncio.current_task())
        except BaseException:
            await self._config.transport.aclose()
            raise
        shutdown = Shutdown(self._config, parts, self._log)
        try:
            await self._serve_until_stopped(parts, shutdown, record.known)
            await shutdown.drain()
        except GeneratorExit:  # the event loop has ended: nothing can be awaited
            parts.leases.stop()
            raise
        except BaseException as error:
            self._log.warning("worker.interrupted", error=type(error).__name__)
            await shutdown.end(shutdown.hand_back)
            raise
        await shutdown.end()

    async def _announce(self) -> AppRecord | None:
        """Register the app. Return None if the worker is stopped before Redis is reachable."""
        try:
            record = await self._config.registration.announce(self._stop.requested)
        except BaseException:
            await self._config.transport.aclose()
            raise
        if record is None:
            await self._config.transport.aclose()
            self._log.info("worker.stopped")
        return record

    async def _serve_until_stopped(self, parts: Parts, shutdown: Shutdown, shards: int) -> None:
        parts.runner.start()
        parts.leases.start()
        settling = shutdown.settle()
        shutdown.helpers.append(asyncio.create_task(shutdown.stop_fetching()))
        if parts.listeners is not None:
            shutdown.helpers.append(asyncio.create_task(parts.listeners.run()))
        await parts.shard_fetchers.serve(shards)
        if parts.recycling is not None:
            shutdown.helpers.append(asyncio.create_task(parts.recycling.watch_memory()))
        if self._config.registry.pipeline is not None:
            watching = parts.flow_nodes.watch(lambda: parts.shard_fetchers.shards)
            shutdown.helpers.append(asyncio.create_task(watching))
        if self._config.registry.blobs is not None:
            sweeper = BlobSweeper(
                self._config.registry.name,
                self._config.registry.blobs,
                self._config.transport,
                self.name,
                lambda: shards,
            )
            shutdown.helpers.append(asyncio.create_task(sweeper.run()))
        if self.options.burst:
            shutdown.helpers.append(asyncio.create_task(stop_when_empty(self._config, parts.runner)))
        shutdown.helpers.append(asyncio.create_task(parts.status.measure()))
        if self._config.exclusive:
            _tune_gc()
        logs.always(
            "worker.ready",
            worker=self.name,
            types=shortened(self._config.types),
            concurrency=self.options.concurrency,
        )
        self.ready.set()
        await self._until_stopped(parts, shutdown, settling)

    async def _until_stopped(self, parts: Parts, shutdown: Shutdown, settling: asyncio.Task[None]) -> None:
        """Wait for a stop request, or for the unexpected end of the settler, a fetcher or the lifespan: a
        worker that does not settle would keep its tasks forever."""
        waiting = [
            asyncio.create_task(event.wait()) for event in (self._stop.requested, parts.shard_fetchers.failed)
        ]
        shutdown.helpers += waiting
        opened = self._config.opened.task
        ends = [settling, *waiting] if opened is None else [settling, opened, *waiting]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if settling.done() and not settling.cancelled() and (error := settling.exception()) is not None:
            self._log.critical("worker.failed", error=repr(error), exc_info=error)


def _tune_gc() -> None:
    """Exclude the loaded modules from garbage collection: with a thousand tasks in flight, a full collection
    blocked the event loop for 40 ms."""
    gc.freeze()
    gc.enable()
