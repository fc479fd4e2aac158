"""The shutdown of a worker: finish or hand back what is in flight, settle it, deregister.

Owns the order of these steps and their time limits. However a worker ends, it must not keep a delivery.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Final

from streamq.telemetry.logs import Logger
from streamq.transport.async_transport import AsyncTransport
from streamq.worker.assembly import Parts
from streamq.worker.config import WorkerConfig
from streamq.worker.own_threads import in_own_thread
from streamq.worker.running_attempts import GRACE

FLUSH_TIMEOUT: Final = 5.0
"""Seconds for the last settlements; at least the drain timeout."""

Step = Callable[[], Coroutine[object, object, None]]


class Shutdown:
    """The shutdown of one worker. helpers: asyncio tasks that are cancelled with it."""

    def __init__(self, config: WorkerConfig, parts: Parts, log: Logger) -> None:
        self._flow_nodes = parts.flow_nodes
        self._runner, self._settler, self._shard_fetchers = parts.runner, parts.settler, parts.shard_fetchers
        self._leases, self._in_flight = parts.leases, parts.in_flight
        self._stop, self._log = config.stop, log
        self._listeners = parts.listeners
        self._transport: AsyncTransport = config.transport
        self._drain_timeout = config.options.drain_timeout
        self._settling: asyncio.Task[None] | None = None
        self.helpers: list[asyncio.Task[object]] = []

    def settle(self) -> asyncio.Task[None]:
        """Run the settler, and return its task. Restart it if it was cancelled: an event loop that is being
        closed cancels all tasks."""
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settler.run())
        return self._settling

    async def stop_fetching(self) -> None:
        """Stop fetching as soon as the worker is asked to stop, even during its start: a task that is fetched
        and handed back goes to the end of the queue."""
        await self._stop.requested.wait()
        await self._shard_fetchers.stop()

    async def drain(self) -> None:
        """Stop fetching, wait for running handlers within the drain timeout, and hand back the rest."""
        self._stop.requested.set()
        self._log.info("worker.drain", running=len(self._runner.running()), timeout=self._drain_timeout)
        self._runner.begin_drain()
        await self._shard_fetchers.stop()
        if not await self._finish(self._drain_timeout):
            self._runner.stop_all()
            await self._finish(GRACE + 1.0, cancelled=True)
        await self._flush(max(FLUSH_TIMEOUT, self._drain_timeout))

    async def hand_back(self) -> None:
        """Hand back at once what is in flight, because of a cancellation or an error. May be repeated."""
        self._stop.requested.set()
        self._runner.attempts.stopping = True
        self._runner.hand_back_queued()
        self.settle()
        self._runner.stop_all()
        await self._shard_fetchers.stop()
        self._runner.stop_all()
        await self._finish(GRACE + 1.0, cancelled=True)
        await self._flush(FLUSH_TIMEOUT)

    async def end(self, *steps: Step) -> None:
        """Run the steps and deregister, even if the worker is cancelled meanwhile: each step has its own time
        limits. Run a step again if it was cancelled itself: closing an event loop cancels all tasks."""
        for step in (*steps, self._close):
            if not await self._run_step(step):
                await self._run_step(step)

    async def _run_step(self, step: Step) -> bool:
        """Run a step and log its error. Return False if it was cancelled."""
        running = asyncio.create_task(step())
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled() and (error := running.exception()) is not None:
            self._log.error("worker.end_failed", error=repr(error), exc_info=error)
        return not running.cancelled()

    async def _close(self) -> None:
        self._leases.stop()
        self._runner.close()
        if self._leases.is_alive():  # a late heartbeat would register the worker again
            await in_own_thread(self._leases.join, 2.0)
        # The first shard has the heartbeats, even if the worker was stopped before it served any shard.
        await asyncio.gather(
            *(self._shard_fetchers.leave(shard) for shard in {0, *self._shard_fetchers.shards})
        )
        if self._listeners is not None:
            await self._listeners.finish()
        helpers = [task for task in (self._settling, *self.helpers) if task is not None]
        for task in helpers:
            task.cancel()
        await asyncio.gather(
            *helpers, self._shard_fetchers.stop(), self._runner.ended(), return_exceptions=True
        )
        await self._runner.children_ended()
        await self._transport.wait_spawned()
        await self._flow_nodes.aclose()
        await self._transport.aclose()
        self._log.info("worker.stopped")

    async def _finish(self, seconds: float, *, cancelled: bool = False) -> bool:
        """Wait until nothing runs. Return False if time is up, or if an immediate stop is requested before
        the handlers were cancelled."""
        deadline = time.monotonic() + seconds
        while not self._runner.idle and time.monotonic() < deadline:
            if self._stop.immediate.is_set() and not cancelled:
                return False
            await asyncio.sleep(0.02)
        return self._runner.idle

    async def _flush(self, seconds: float) -> None:
        """Settle what has ended. If the server stays unreachable, give up: then the leases run out."""
        try:
            async with asyncio.timeout(seconds):
                await self._settler.flush()
                await self._flow_nodes.ended()
        except TimeoutError:
            self._log.error("worker.unsettled", tasks=len(self._in_flight))
