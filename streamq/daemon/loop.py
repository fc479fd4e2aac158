"""A chore's loop, written once: interval, jitter, and going on after any fault.

Owns when a chore runs, not what it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from streamq import telemetry
from streamq.daemon.rounds import Rounds
from streamq.errors import RedisError, RedisUnavailable
from streamq.transport import AsyncTransport, GroupMissing


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not when told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


async def every(
    name: str,
    interval: float,
    chore: Callable[[], Awaitable[None]],
    transport: AsyncTransport,
    stop: asyncio.Event,
    rounds: Rounds,
    *,
    after: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a chore now and then every `interval` seconds, a tenth more or less, so that daemons that
    were started together do not stay in step. `after` is told the name when a round is over."""
    while not stop.is_set():
        await guarded(name, chore, transport, stop, rounds)
        after(name)
        await pause(stop, interval * random.uniform(0.9, 1.1))


async def guarded(
    name: str,
    chore: Callable[[], Awaitable[None]],
    transport: AsyncTransport,
    stop: asyncio.Event,
    rounds: Rounds,
) -> None:
    """One round: a chore that fails is logged and tried again; an absent server is waited for."""
    log = telemetry.get_logger(chore=name)
    try:
        await chore()
        rounds.good(name)
    except RedisUnavailable as error:
        log.warning("redis.unavailable", doing=name, error=str(error))
        rounds.lost(name)
        while not stop.is_set() and not await transport.reconnect(patience=1.0):
            pass
        rounds.found(name)
    except GroupMissing as error:
        log.warning("group.missing", error=str(error))
        rounds.failed(name)
    except RedisError as error:
        log.error("chore.failed", error=str(error))  # noqa: TRY400 - the server's words say it all
        rounds.failed(name)
    except Exception as error:
        log.exception("chore.failed", error=repr(error))
        rounds.failed(name)
