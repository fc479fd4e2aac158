"""The recovery of a fetcher from a failed read: wait for the server, then hand back lost replies.

Owns that order, and since when the server has been unreachable. Must not read a task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from streamq.errors import RedisError, RedisUnavailable
from streamq.telemetry.counters import Counters
from streamq.telemetry.logs import Logger
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import ServerChanged
from streamq.transport.server_wait import is_ready, wait_until_ready
from streamq.worker.lost_replies import LostReplies
from streamq.worker.server_epochs import ServerEpochs

IDLE: Final = 1.0
"""Seconds after which the server or a proxy may have closed a waiting read for being idle."""
PROBE_TIMEOUT: Final = 0.5
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts on a server that replies with an error (loading, read only)."""


class Recovery:
    """The recovery of one shard in one worker process. key: a key of the shard. pause: waits for the given
    seconds, or until the fetcher has something to do. stopping: set when the fetcher should stop."""

    def __init__(
        self,
        shard: int,
        key: str,
        transport: AsyncTransport,
        servers: ServerEpochs,
        lost_replies: LostReplies,
        counters: Counters,
        pause: Callable[[float], Awaitable[None]],
        stopping: asyncio.Event,
        log: Logger,
    ) -> None:
        self._shard, self._key = shard, key
        self._transport, self._servers, self._lost_replies = transport, servers, lost_replies
        self._counters, self._pause, self._stopping, self._log = counters, pause, stopping, log
        self._failures = 0
        self.unreachable_since: float = 0.0

    def succeeded(self) -> None:
        """Record a successful read."""
        self._failures = 0

    async def create_groups(self) -> None:
        """Create missing consumer groups (after FLUSHALL or a stray command), starting at the first entry."""
        self._log.warning("group.missing")
        try:
            await self._lost_replies.create_groups()
        except RedisError as error:
            self._log.error("group.create_failed", error=str(error))
            await self._pause(1.0)

    async def handle_change(self, changed: ServerChanged) -> None:
        """Verify the deliveries in flight with a server that has restarted or failed over, before anything is
        fetched from it."""
        try:
            if await self._servers.verify(self._shard, changed.incarnation):
                await self._lost_replies.hand_back()
        except RedisError as error:
            self._log.warning("redis.unavailable", doing="verify", error=str(error))
            await self._pause(0.1)

    async def recover(self, cause: RedisUnavailable, read_started: float) -> bool:
        """Wait for the server after a failed read, and hand back the tasks of lost replies. Return whether
        the server is reachable again.

        A connection that was closed for being idle is not an outage if a new one works: that is logged at
        level debug.
        """
        idle = time.monotonic() - read_started >= IDLE and await self._is_reachable()
        (self._log.debug if idle else self._log.warning)("redis.unavailable", doing="fetch", error=str(cause))
        if not idle:
            self._counters.count("streamq_redis_errors_total", "fetch")
        self.unreachable_since = self.unreachable_since or time.monotonic()
        await self._pause(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures))
        self._failures += not idle
        while not self._stopping.is_set():
            try:
                if not await wait_until_ready(self._transport, self._key, stop=self._stopping):
                    return False
                await self._lost_replies.hand_back()
            except RedisError as error:
                self._log.warning("fetch.recovery_failed", error=str(error))
                await self._pause(0.5)
            else:
                (self._log.debug if idle else self._log.info)("redis.reconnected")
                self._counters.count("streamq_redis_reconnects_total", "fetch")
                self.unreachable_since = 0.0
                return True
        return False

    async def _is_reachable(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                return await is_ready(self._transport, self._key)
        except (TimeoutError, RedisError):
            return False

    async def hand_back(self) -> None:
        """Hand back the tasks that a cancelled read may have fetched."""
        try:
            await self._lost_replies.hand_back()
        except RedisError as error:
            self._log.warning("fetch.recovery_failed", error=str(error))
