"""A chore's loop, written once: interval, jitter, and going on after any fault.

Owns when a chore runs, not what it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from streamq import telemetry
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
    *,
    after: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a chore now and then every `interval` seconds, a tenth more or less, so that daemons that
    were started together do not stay in step. `after` is told the name when a round is over."""
    while not stop.is_set():
        await guarded(name, chore, transport, stop)
        after(name)
        await pause(stop, interval * random.uniform(0.9, 1.1))


@contextmanager
def apart(log: Any, **about: str) -> Iterator[None]:
    """What is wrong with one type or stream is logged and keeps no other from being served. An absent
    server is raised: it concerns all."""
    try:
        yield
    except RedisUnavailable:
        raise
    except GroupMissing as error:
        log.warning("group.missing", **about, error=str(error))
    except RedisError as error:
        log.error("chore.failed", **about, error=str(error))  # noqa: TRY400 - the server's words say it all


async def guarded(
    name: str, chore: Callable[[], Awaitable[None]], transport: AsyncTransport, stop: asyncio.Event
) -> None:
    """One round: a chore that fails is logged and tried again; an absent server is waited for."""
    log = telemetry.get_logger(chore=name)
    try:
        await chore()
    except RedisUnavailable as error:
        log.warning("redis.unavailable", doing=name, error=str(error))
        while not stop.is_set() and not await transport.reconnect(patience=1.0):
            pass
    except GroupMissing as error:
        log.warning("group.missing", error=str(error))
    except RedisError as error:
        log.error("chore.failed", error=str(error))  # noqa: TRY400 - the server's words say it all
    except Exception as error:
        log.exception("chore.failed", error=repr(error))
