"""A chore's loop, written once: interval, jitter, and going on after any fault.

Owns when a chore runs and what its faults cost: no fault of one app, shard or type keeps another from its
turn. Does not know what a chore does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from streamq.daemon.chore_status import ChoreStatus
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import GroupMissing
from streamq.transport.server_wait import wait_until_ready

T = TypeVar("T")

REFUSED: Final = 1.0
"""Seconds after which a server is asked again that is there, but refuses us."""
BATCH: Final = 20
"""Task types in one call at most."""


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not when told to stop."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class Faults:
    """What was wrong with single apps, shards, types and rows in one round of a chore.

    `found`: a line each. Every fault is noted in the book of rounds; one that is new is logged.
    """

    def __init__(self, chore: str, chore_status: ChoreStatus) -> None:
        self._chore, self._chore_status = chore, chore_status
        self.log: Any = logs.get_logger(chore=chore)
        self.found: list[str] = []

    def add(self, about: dict[str, Any], error: str, **more: Any) -> None:
        """Note a fault. `about`: whose it is. `more`: what a log line says beside it."""
        self.found.append(error)
        new = self._chore_status.fault(self._chore, about, error)
        if new:
            self.log.error("chore.failed", **about, error=error, **more)
        else:
            self.log.debug("chore.failed", **about, error=error)


Step = Callable[[Faults], Awaitable[None]]
"""A round of a chore, or the wait between two. Faults that cost only a part of it go to its argument."""


@contextmanager
def isolate_errors(faults: Faults, **about: Any) -> Generator[None]:
    """Note what is wrong with one app, shard, type or row, and go on. Raises RedisUnavailable: an absent
    server concerns all."""
    try:
        yield
    except RedisUnavailable:
        raise
    except GroupMissing as error:
        faults.log.warning("group.missing", **about, error=str(error))
    except RedisError as error:
        faults.add(about, str(error))  # the server's words say it all
    except Exception as error:  # noqa: BLE001 - stored values that nobody of ours wrote
        faults.add(about, repr(error), exc_info=True)


async def for_each(items: Iterable[T], step: Callable[[T], Awaitable[None]], faults: Faults) -> None:
    """Run a step for each item; a fault of one keeps no other from its turn. Raises RedisUnavailable at the
    end where one item's server is away, since its return is waited for."""
    away: RedisUnavailable | None = None
    for item in items:
        try:
            with isolate_errors(faults, **about(item)):
                await step(item)
        except RedisUnavailable as error:
            away = away or error
    if away is not None:
        raise away


async def in_batches(
    types: Sequence[TypeKeys], step: Callable[[Sequence[TypeKeys]], Awaitable[None]], faults: Faults
) -> None:
    """Run a step for types of one shard, some at a time; one by one where a batch fails."""
    for n in range(0, len(types), BATCH):
        some = types[n : n + BATCH]
        try:
            await step(some)
        except RedisUnavailable:
            raise
        except Exception:  # noqa: BLE001 - noted below, of whom it concerns
            for keys in some:
                with isolate_errors(faults, **about(keys)):
                    await step([keys])


def about(item: object) -> dict[str, Any]:
    """Whose turn it is, for whoever reads what went wrong in it."""
    while isinstance(item, tuple | list) and item:
        item = item[0]
    names = ("app", "shard", "type") if isinstance(item, TypeKeys) else ("app", "shard")
    return {name: getattr(item, name) for name in names if hasattr(item, name)}


async def run_periodically(
    name: str,
    step: Step,
    interval: float,
    transport: AsyncTransport,
    stop: asyncio.Event,
    chore_status: ChoreStatus,
    *,
    after_outage: float | None = None,
    after: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a chore until stopped: now, and then every `interval` seconds, a tenth more or less, so that
    daemons that were started together do not stay in step.

    after_outage: seconds to the next round where an absent server came back; None: the interval. `after` is
    told the name when a round is over.
    """
    while not stop.is_set():
        was_away = await run_round(name, step, transport, stop, chore_status)
        after(name)
        seconds = interval if after_outage is None or not was_away else min(after_outage, interval)
        await pause(stop, seconds * random.uniform(0.9, 1.1))


async def run_round(
    name: str, step: Step, transport: AsyncTransport, stop: asyncio.Event, chore_status: ChoreStatus
) -> bool:
    """Run one round: a chore that fails is logged and tried again; an absent server is waited for. Return
    whether it was."""
    faults = Faults(name, chore_status)
    try:
        await step(faults)
    except RedisUnavailable as error:
        faults.log.warning("redis.unavailable", doing=name, error=str(error))
        chore_status.lost(name)
        await _returned(transport, stop, chore_status)
        chore_status.found(name)
        return True
    except GroupMissing as error:
        faults.log.warning("group.missing", error=str(error))
        chore_status.failed(name)
    except RedisError as error:
        faults.log.error("chore.failed", error=str(error))  # noqa: TRY400 - the server's words say it all
        chore_status.failed(name)
    except Exception as error:
        faults.log.exception("chore.failed", error=repr(error))
        chore_status.failed(name)
    else:
        chore_status.good(name, partly=bool(faults.found))
    return False


async def _returned(transport: AsyncTransport, stop: asyncio.Event, chore_status: ChoreStatus) -> None:
    """Wait until the server does its work again. One asks for all chores."""
    if chore_status.returning is None or chore_status.returning.done():
        chore_status.returning = asyncio.create_task(_ask_until_returned(transport, stop))
    await asyncio.shield(chore_status.returning)


async def _ask_until_returned(transport: AsyncTransport, stop: asyncio.Event) -> None:
    """No fault on the way ends the daemon."""
    while not stop.is_set():
        try:
            await wait_until_ready(transport, stop=stop)
        except RedisError as error:
            logs.get_logger().error("redis.reconnect_failed", error=str(error))
            await pause(stop, REFUSED)
        else:
            return
