"""A chore's loop, written once: interval, jitter, and going on after any fault.

Owns when a chore runs, not what it does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from streamq import telemetry
from streamq.daemon.rounds import Rounds
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys
from streamq.transport import AsyncTransport, GroupMissing

T = TypeVar("T")

AWAY_FIRST: Final = 0.05
AWAY_MOST: Final = 1.0
"""Seconds between two questions whether a server that is away has returned, at first and at most."""


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


async def each(items: Iterable[T], step: Callable[[T], Awaitable[None]]) -> None:
    """A step for each. One whose server is away keeps no other from its turn; its error comes at the end."""
    away: RedisUnavailable | None = None
    for item in items:
        try:
            await step(item)
        except RedisUnavailable as error:
            away = away or error
    if away is not None:
        raise away


_FAILED: ContextVar[list[str]] = ContextVar("streamq_failed_apart")
"""What failed apart from the rest in the round under way."""


@contextmanager
def apart(log: Any, **about: str) -> Generator[None]:
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
        _FAILED.get([]).append(str(error))


TOGETHER: Final = 20
"""Task types in one call at most."""


async def together(
    types: list[TypeKeys], step: Callable[[Sequence[TypeKeys]], Awaitable[None]], log: Any
) -> None:
    """A step for types of one shard, some at a time; one by one where something is wrong with one of them."""
    for n in range(0, len(types), TOGETHER):
        some = types[n : n + TOGETHER]
        try:
            await step(some)
        except RedisUnavailable:
            raise
        except RedisError:
            for keys in some:
                with apart(log, type=keys.type):
                    await step([keys])


async def guarded(
    name: str,
    chore: Callable[[], Awaitable[None]],
    transport: AsyncTransport,
    stop: asyncio.Event,
    rounds: Rounds,
) -> None:
    """One round: a chore that fails is logged and tried again; an absent server is waited for."""
    log = telemetry.get_logger(chore=name)
    failed: list[str] = []
    _FAILED.set(failed)
    try:
        await chore()
        rounds.good(name, partly=bool(failed))
    except RedisUnavailable as error:
        log.warning("redis.unavailable", doing=name, error=str(error))
        rounds.lost(name)
        await _returned(transport, stop, rounds)
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


async def _returned(transport: AsyncTransport, stop: asyncio.Event, rounds: Rounds) -> None:
    """Wait until the server does its work again. One asks for all chores."""
    if rounds.returning is None or rounds.returning.done():
        rounds.returning = asyncio.create_task(_ask_until_returned(transport, stop))
    await asyncio.shield(rounds.returning)


async def _ask_until_returned(transport: AsyncTransport, stop: asyncio.Event) -> None:
    """No fault on the way ends the daemon. The server is asked at growing intervals: each time every node
    of a cluster may be tried."""
    seconds = AWAY_FIRST
    while not stop.is_set():
        try:
            if await transport.reconnect(patience=0):
                return
        except RedisError as error:
            telemetry.get_logger().error("redis.reconnect_failed", error=str(error))
        await pause(stop, seconds * random.uniform(0.8, 1.2))
        seconds = min(2 * seconds, AWAY_MOST)
