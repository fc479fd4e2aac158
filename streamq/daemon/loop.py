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
from streamq.transport import AsyncTransport, GroupMissing, returned

T = TypeVar("T")

REFUSED: Final = 1.0
"""Seconds after which a server is asked again that is there, but refuses us."""


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


_ROUND: ContextVar[tuple[Rounds, str] | None] = ContextVar("streamq_round", default=None)
"""The book and the name of the round under way; None outside of one."""


@contextmanager
def a_round(rounds: Rounds, name: str) -> Generator[None]:
    """What fails apart from the rest within is noted under this name."""
    token = _ROUND.set((rounds, name))
    try:
        yield
    finally:
        _ROUND.reset(token)


async def each(items: Iterable[T], step: Callable[[T], Awaitable[None]]) -> None:
    """A step for each. What is wrong with one keeps no other from its turn: a server that is away is raised
    at the end, since its return is waited for; any other fault is told."""
    away: RedisUnavailable | None = None
    for item in items:
        try:
            with apart(**about(item)):
                await step(item)
        except RedisUnavailable as error:
            away = away or error
    if away is not None:
        raise away


def about(item: object) -> dict[str, Any]:
    """Whose turn it is, for whoever reads what went wrong in it."""
    while isinstance(item, tuple | list) and item:
        item = item[0]
    names = ("app", "shard", "type") if isinstance(item, TypeKeys) else ("app", "shard")
    return {name: getattr(item, name) for name in names if hasattr(item, name)}


@contextmanager
def apart(log: Any = None, **place: Any) -> Generator[None]:
    """What is wrong with one app, shard, type or row is told and keeps no other from being served. An absent
    server is raised: it concerns all."""
    try:
        yield
    except RedisUnavailable:
        raise
    except GroupMissing as error:
        (log or telemetry.get_logger()).warning("group.missing", **place, error=str(error))
    except RedisError as error:
        tell(log, place, str(error))  # the server's words say it all
    except Exception as error:  # noqa: BLE001 - stored values that nobody of ours wrote
        tell(log, place, repr(error), exc_info=True)


def tell(log: Any, place: dict[str, Any], error: str, **more: Any) -> None:
    """Log a fault that is new, and note it in the book of the round under way."""
    under_way, log = _ROUND.get(), log or telemetry.get_logger()
    if under_way is None or under_way[0].fault(under_way[1], place, error):
        log.error("chore.failed", **place, error=error, **more)
    else:
        log.debug("chore.failed", **place, error=error)


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
        except Exception:  # noqa: BLE001 - told below, of whom it concerns
            for keys in some:
                with apart(log, **about(keys)):
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
    began = rounds.count_faults()
    try:
        with a_round(rounds, name):
            await chore()
        rounds.good(name, partly=rounds.count_faults() > began)
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
    """No fault on the way ends the daemon."""
    while not stop.is_set():
        try:
            await returned(transport, stop=stop)
        except RedisError as error:
            telemetry.get_logger().error("redis.reconnect_failed", error=str(error))
            await pause(stop, REFUSED)
        else:
            return
