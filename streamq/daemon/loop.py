"""The loop of a chore: interval, jitter, and recovery from any fault.

Owns when a chore runs and the isolation of faults: a fault of one app, shard or type does not stop the work
on the others. Must not know what a chore does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from streamq.daemon.chore_status import ChoreStatus
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import GroupMissing
from streamq.transport.server_wait import wait_until_ready

T = TypeVar("T")

REFUSED_DELAY: Final = 1.0
"""Seconds between two attempts to reconnect to a Redis that refuses this daemon."""
BATCH: Final = 20
"""The most task types in one call."""


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds` or until `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass


class Faults:
    """The faults of single apps, shards, types and rows in one round of a chore.

    `found`: their error texts. Every fault is recorded in the chore status; a new one is logged as an error.
    """

    def __init__(self, chore: str, chore_status: ChoreStatus) -> None:
        self._chore, self._chore_status = chore, chore_status
        self.log: logs.Logger = logs.get_logger(chore=chore)
        self.found: list[str] = []

    def add(self, fields: Mapping[str, object], error: str, **more: object) -> None:
        """Record a fault. `fields`: app, shard and type. `more`: further fields of the log line."""
        self.found.append(error)
        new = self._chore_status.add_fault(self._chore, fields, error)
        if new:
            self.log.error("chore.failed", **fields, error=error, **more)
        else:
            self.log.debug("chore.failed", **fields, error=error)


Step = Callable[[Faults], Awaitable[None]]
"""A round of a chore, or the wait between two rounds. It adds the faults of single items to its argument."""


@contextmanager
def isolate_errors(faults: Faults, **fields: object) -> Generator[None]:
    """Record an error of one app, shard, type or row instead of raising it. Raise RedisUnavailable: an
    unreachable server affects everything."""
    try:
        yield
    except RedisUnavailable:
        raise
    except GroupMissing as error:
        faults.log.warning("group.missing", **fields, error=str(error))
    except RedisError as error:
        faults.add(fields, str(error))  # the server's message suffices, without a traceback
    except Exception as error:  # noqa: BLE001 - other programs may have written the stored values
        faults.add(fields, repr(error), exc_info=True)


async def for_each(items: Iterable[T], step: Callable[[T], Awaitable[None]], faults: Faults) -> None:
    """Run a step for each item; a fault of one does not skip the others. Raise RedisUnavailable at the end if
    an item's server was unreachable, so that the caller waits for it."""
    unavailable: RedisUnavailable | None = None
    for item in items:
        try:
            with isolate_errors(faults, **log_fields(item)):
                await step(item)
        except RedisUnavailable as error:
            unavailable = unavailable or error
    if unavailable is not None:
        raise unavailable


async def in_batches(
    types: Sequence[TypeKeys], step: Callable[[Sequence[TypeKeys]], Awaitable[None]], faults: Faults
) -> None:
    """Run a step for types of one shard in batches; one by one if a batch fails."""
    for n in range(0, len(types), BATCH):
        batch = types[n : n + BATCH]
        try:
            await step(batch)
        except RedisUnavailable:
            raise
        except Exception:  # noqa: BLE001 - the types at fault are recorded below
            for keys in batch:
                with isolate_errors(faults, **log_fields(keys)):
                    await step([keys])


def log_fields(item: object) -> dict[str, object]:
    """Return the app, shard and type of an item, for the log."""
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
    after_round: Callable[[str], None] = lambda _: None,
) -> None:
    """Run a chore until stopped: now, and then every `interval` seconds ±10 %, so that daemons that were
    started together do not run in step.

    after_outage: seconds from the end of a Redis outage to the next round; None: the interval. `after_round`
    is called with the name after each round.
    """
    while not stop.is_set():
        had_outage = await run_round(name, step, transport, stop, chore_status)
        after_round(name)
        seconds = interval if after_outage is None or not had_outage else min(after_outage, interval)
        await pause(stop, seconds * random.uniform(0.9, 1.1))


async def run_round(
    name: str, step: Step, transport: AsyncTransport, stop: asyncio.Event, chore_status: ChoreStatus
) -> bool:
    """Run one round. Log any failure. If Redis is unreachable, wait until it returns, and return True."""
    faults = Faults(name, chore_status)
    try:
        await step(faults)
    except RedisUnavailable as error:
        faults.log.warning("redis.unavailable", doing=name, error=str(error))
        chore_status.redis_lost(name)
        await _wait_for_redis(transport, stop, chore_status)
        chore_status.redis_returned(name)
        return True
    except GroupMissing as error:
        faults.log.warning("group.missing", error=str(error))
        chore_status.failed(name)
    except RedisError as error:
        faults.log.error("chore.failed", error=str(error))  # noqa: TRY400 - the server's message suffices
        chore_status.failed(name)
    except Exception as error:
        faults.log.exception("chore.failed", error=repr(error))
        chore_status.failed(name)
    else:
        chore_status.succeeded(name, partly=bool(faults.found))
    return False


async def _wait_for_redis(transport: AsyncTransport, stop: asyncio.Event, chore_status: ChoreStatus) -> None:
    """Wait until Redis works again. All chores share one task that probes it."""
    if chore_status.reconnecting is None or chore_status.reconnecting.done():
        chore_status.reconnecting = asyncio.create_task(_reconnect(transport, stop))
    await asyncio.shield(chore_status.reconnecting)


async def _reconnect(transport: AsyncTransport, stop: asyncio.Event) -> None:
    """Probe Redis until it returns. Errors are logged and retried: none may end the daemon."""
    while not stop.is_set():
        try:
            await wait_until_ready(transport, stop=stop)
        except RedisError as error:
            logs.get_logger().error("redis.reconnect_failed", error=str(error))
            await pause(stop, REFUSED_DELAY)
        else:
            return
