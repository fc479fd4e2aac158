"""Waits for a server that is unreachable or not ready: how often it is asked, and what ends the wait.

Owns the intervals. Asks through the transport. Must not handle any error but that the server is unreachable.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Coroutine
from typing import Final, Protocol, TypeVar

from streamq.calls import question as question_calls
from streamq.errors import RedisUnavailable
from streamq.transport.async_transport import AsyncTransport

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds between two questions, the first and the longest, a fifth more or less: each may go to every node
of a cluster."""
LOG_AFTER: Final = 1.0
LOG_EVERY: Final = 30.0
"""Seconds without a reply after which a starting process logs what it waits for, and between two such
lines."""
SHARED_FOR: Final = 0.3
"""Seconds for which a failed discovery counts for all callers."""


T = TypeVar("T")


class _Log(Protocol):
    def info(self, event: str, **fields: object) -> object: ...
    def warning(self, event: str, **fields: object) -> object: ...


async def is_ready(transport: AsyncTransport, key: str = "") -> bool:
    """Return whether the server of a key is ready, or any server if there is no key.

    If no server replied to a discovery within the last 0.3 s, return False without asking, so that many
    waiters cause one probe. Raises as `wait_until_ready`.
    """
    call = question_calls.ready(key)
    if transport.find(call) is None and time.monotonic() - transport.unanswered_at < SHARED_FOR:
        return False
    try:
        await transport.run(call, patience=0)
    except RedisUnavailable:
        return False
    return True


async def wait_until_ready(
    transport: AsyncTransport, key: str = "", *, stop: asyncio.Event | None = None
) -> bool:
    """Wait until the server of a key is ready, or any server if there is no key. Return False, at once, if
    `stop` is set before. Raises RedisErrors of a server that is reachable but refuses the call."""
    return await unless_stopped(stop or asyncio.Event(), _poll(transport, key)) is not None


async def wait_at_start(transport: AsyncTransport, log: _Log, *, stop: asyncio.Event) -> bool:
    """Wait as `wait_until_ready`, for a process that starts: log what it waits for, at first and every 30
    s."""
    slow = asyncio.ensure_future(_log_slow(transport, log))
    try:
        return await unless_stopped(stop, _poll_and_log(transport, log, slow)) is not None
    finally:
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[object, object, T]) -> T | None:
    """Return what the work returns; None, at once, if `stop` is set before: then the work is cancelled."""
    asking = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
        return await asking if asking.done() else None
    finally:
        asking.cancel()
        stopping.cancel()
        await asyncio.gather(asking, stopping, return_exceptions=True)


async def _poll(transport: AsyncTransport, key: str) -> bool:
    seconds = FIRST_WAIT
    while not await is_ready(transport, key):
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
        seconds = min(2 * seconds, LONGEST_WAIT)
    return True


async def _log_slow(transport: AsyncTransport, log: _Log) -> None:
    await asyncio.sleep(LOG_AFTER)
    log.warning("redis.waiting", server=str(transport.address), url_from=transport.address.source)


async def _poll_and_log(transport: AsyncTransport, log: _Log, slow: asyncio.Task[None]) -> bool:
    seconds, logged_at = FIRST_WAIT, -math.inf
    while True:
        try:
            await transport.run(question_calls.ready(), patience=0)
        except RedisUnavailable as error:
            slow.cancel()
            if time.monotonic() - logged_at >= LOG_EVERY:
                logged_at = time.monotonic()
                log.warning("redis.unavailable", doing="start", error=str(error), waiting="yes")
        else:
            if logged_at > -math.inf:
                log.info("redis.connected", server=str(transport.address))
            return True
        await asyncio.sleep(seconds * random.uniform(0.8, 1.2))
        seconds = min(2 * seconds, LONGEST_WAIT)
