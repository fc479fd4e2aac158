"""What a fetcher does when a read has failed: wait for the server, and hand back what never arrived.

Owns that order, and since when the server is away. Reads no task.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from streamq.errors import RedisError, RedisUnavailable
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import ServerChanged
from streamq.transport.server_wait import is_ready, wait_until_ready
from streamq.worker.lost_replies import LostReplies
from streamq.worker.server_epochs import ServerEpochs

IDLE: Final = 1.0
"""Seconds after which a read that waited may have been ended because nothing came."""
SOON: Final = 0.5
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries on a server that answers, but not what it should (loading, read only)."""


class Recovery:
    """Of one shard in one worker process. key: one of the shard's. pause: waits so many seconds, or until
    there is something to do. ending: set when the fetcher is to stop."""

    def __init__(
        self,
        shard: int,
        key: str,
        transport: AsyncTransport,
        servers: ServerEpochs,
        lost_replies: LostReplies,
        counters: Counters,
        pause: Callable[[float], Awaitable[None]],
        ending: asyncio.Event,
        log: Any,
    ) -> None:
        self._shard, self._key = shard, key
        self._transport, self._servers, self._lost_replies = transport, servers, lost_replies
        self._counters, self._pause, self._ending, self._log = counters, pause, ending, log
        self._failures = 0
        self.away_since: float = 0.0

    def succeeded(self) -> None:
        """A read has brought what it should."""
        self._failures = 0

    async def make_groups(self) -> None:
        """A group is missing (FLUSHALL, a stray command): create it from the first entry on."""
        self._log.warning("group.missing")
        try:
            await self._lost_replies.make_groups()
        except RedisError as error:
            self._log.error("group.create_failed", error=str(error))
            await self._pause(1.0)

    async def move(self, changed: ServerChanged) -> None:
        """The server is another than before: what we hold is checked before anything is fetched from it."""
        try:
            if await self._servers.move(self._shard, changed.incarnation):
                await self._lost_replies.hand_back()
        except RedisError as error:
            self._log.warning("redis.unavailable", doing="move", error=str(error))
            await self._pause(0.1)

    async def recover(self, lost: RedisUnavailable, began: float) -> bool:
        """After a failed read, which began then: wait for the server, which may have handed us tasks that
        never arrived, and hand them back. Return whether it is there again.

        A connection that ended because nothing came on it is nothing to be told of, where another is had.
        """
        quiet = time.monotonic() - began >= IDLE and await self._still_there()
        (self._log.debug if quiet else self._log.warning)("redis.unavailable", doing="fetch", error=str(lost))
        if not quiet:
            self._counters.count("streamq_redis_errors_total", "fetch")
        self.away_since = self.away_since or time.monotonic()
        await self._pause(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures))
        self._failures += not quiet
        while not self._ending.is_set():
            try:
                if not await wait_until_ready(self._transport, self._key, stop=self._ending):
                    return False
                await self._lost_replies.hand_back()
            except RedisError as error:
                self._log.warning("fetch.recovery_failed", error=str(error))
                await self._pause(0.5)
            else:
                (self._log.debug if quiet else self._log.info)("redis.reconnected")
                self._counters.count("streamq_redis_reconnects_total", "fetch")
                self.away_since = 0.0
                return True
        return False

    async def _still_there(self) -> bool:
        try:
            async with asyncio.timeout(SOON):
                return await is_ready(self._transport, self._key)
        except (TimeoutError, RedisError):
            return False

    async def hand_back(self) -> None:
        """Hand back what a read that was cancelled half way may have brought."""
        try:
            await self._lost_replies.hand_back()
        except RedisError as error:
            self._log.warning("fetch.recovery_failed", error=str(error))
