"""The end of a worker: finish or hand back what is in hand, settle it, leave.

Owns the order of that end, and the limits of each step. However the end comes, nothing is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from streamq.transport.async_transport import AsyncTransport
from streamq.worker.assembly import Parts
from streamq.worker.config import WorkerConfig
from streamq.worker.running_attempts import GRACE

FLUSH: Final = 5.0
"""Seconds to settle at the end what is done, at least."""


class Shutdown:
    """Of one worker. helpers: asyncio tasks that end with it."""

    def __init__(self, given: WorkerConfig, parts: Parts, log: Any) -> None:
        self._runner, self._settler, self._shard_fetchers = parts.runner, parts.settler, parts.shard_fetchers
        self._leases, self._in_flight = parts.leases, parts.in_flight
        self._stop, self._log = given.stop, log
        self._transport: AsyncTransport = given.transport
        self._drain_timeout = given.options.drain_timeout
        self._settling: asyncio.Task[None] | None = None
        self.helpers: list[asyncio.Task[Any]] = []

    def settle(self) -> asyncio.Task[None]:
        """Settle from now on; also where that was cancelled, as the end of an event loop does with all
        tasks."""
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settler.run())
        return self._settling

    async def halt(self) -> None:
        """Nothing is taken from the moment on that we are to stop, also where that comes while we begin: what
        is taken and handed back goes behind all others."""
        await self._stop.asked.wait()
        await self._shard_fetchers.stop()

    async def drain(self) -> None:
        """Take no more, let what runs finish within the time, hand the rest back."""
        self._stop.asked.set()
        self._log.info("worker.drain", running=len(self._runner.running()), timeout=self._drain_timeout)
        self._runner.attempts.stopping = True
        self._runner.hand_back_queued()
        await self._shard_fetchers.stop()
        if not await self._finish(self._drain_timeout):
            self._runner.stop_all()
            await self._finish(GRACE + 1.0, hurried=True)
        await self._flush(max(FLUSH, self._drain_timeout))

    async def hand_back(self) -> None:
        """Give back at once what is in hand: somebody ends us otherwise than by `stop`. May be run again."""
        self._stop.asked.set()
        self._runner.attempts.stopping = True
        self._runner.hand_back_queued()
        self.settle()
        self._runner.stop_all()
        await self._shard_fetchers.stop()
        self._runner.stop_all()
        await self._finish(GRACE + 1.0, hurried=True)
        await self._flush(FLUSH)

    async def end(self, *steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Leave, whoever cancels us meanwhile: each step has limits of its own. One that was cancelled itself
        is taken anew: the end of an event loop cancels all tasks."""
        for step in (*steps, self._close):
            if not await self._step(step):
                await self._step(step)

    async def _step(self, step: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Answers whether it came to its end, also with an error."""
        ending = asyncio.create_task(step())
        while not ending.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([ending])
        if not ending.cancelled() and (error := ending.exception()) is not None:
            self._log.error("worker.end_failed", error=repr(error), exc_info=error)
        return not ending.cancelled()

    async def _close(self) -> None:
        self._leases.stop()
        self._runner.close()
        if self._leases.is_alive():  # a heartbeat on its way would bring us back
            await asyncio.to_thread(self._leases.join, 2.0)
        # The first one has our heartbeats, also where we were told to stop before we served any.
        await asyncio.gather(
            *(self._shard_fetchers.leave(shard) for shard in {0, *self._shard_fetchers.shards})
        )
        helpers = [one for one in (self._settling, *self.helpers) if one is not None]
        for one in helpers:
            one.cancel()
        await asyncio.gather(
            *helpers, self._shard_fetchers.stop(), self._runner.ended(), return_exceptions=True
        )
        await self._transport.wait_spawned()
        await self._transport.aclose()
        self._log.info("worker.stopped")

    async def _finish(self, seconds: float, *, hurried: bool = False) -> bool:
        """Wait until nothing runs; False where time is up, or where it is told to end now."""
        deadline = time.monotonic() + seconds
        while not self._runner.idle and time.monotonic() < deadline:
            if self._stop.now.is_set() and not hurried:
                return False
            await asyncio.sleep(0.02)
        return self._runner.idle

    async def _flush(self, seconds: float) -> None:
        """Settle what is done. Where the server is away for long, the leases run out instead."""
        try:
            async with asyncio.timeout(seconds):
                await self._settler.flush()
        except TimeoutError:
            self._log.error("worker.unsettled", tasks=len(self._in_flight))
