"""Decides whether a queue is idle (no task ready, running or due), and waits for it.

Owns that definition. A task of one type may enqueue one of another while the types are read one by one, so a
queue counts as idle only if two looks in a row find no work, and no task was accepted between them. Must not
write.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.client.sync_client import Client
from streamq.errors import RedisUnavailable, UnknownTaskType
from streamq.flow import Ask, Flow
from streamq.keys import shard_keys, type_keys
from streamq.model.counts import Counts
from streamq.options.checks import Duration, seconds
from streamq.options.names import check_name

if TYPE_CHECKING:
    from streamq.client.async_client import AsyncClient

FIRST: Final = 0.02
LONGEST: Final = 1.0
"""Seconds between two looks, at first and at most."""
_ARRIVALS: Final = ("accepted", "requeued", "adopted", "started", "handed_back", "continued", "reclaimed")
"""The counters that change when a task becomes ready, or leaves that state, between two looks."""

_Counters = dict[tuple[str, int], tuple[int, ...]]


class Scope(NamedTuple):
    """What must be idle: these task types, or all. scheduled: also tasks that are due later."""

    app: str
    shards: int
    types: tuple[str, ...] | None
    scheduled: bool


def scope(app: str, shards: int, types: str | Iterable[str] | None, *, scheduled: bool) -> Scope:
    """Return the scope of a caller's arguments."""
    if types is not None:
        types = (types,) if isinstance(types, str) else tuple(types)
        for name in types:
            check_name(name)
    return Scope(app, shards, types, scheduled)


def idle(within: Scope) -> Flow[bool]:
    """Return whether no work is left."""
    first = yield from _look(within)
    return first is not None and first == (yield from _look(within))


def _look(within: Scope) -> Flow[_Counters | None]:
    """Return the counters of every type in every shard; None as soon as there is work."""
    app, shards, types, scheduled = within
    record = yield Ask(producer_calls.app_record(app))
    seen: _Counters = {}
    known: set[str] = set()
    for shard in range(max(shards, record.known if record is not None else 1)):
        listed: list[str] = yield Ask(question_calls.types(shard_keys(app, shard)))
        known |= set(listed)
        for name in listed if types is None else set(listed).intersection(types):
            counts: Counts = yield Ask(question_calls.counts(type_keys(app, shard, name)))
            if _busy(counts, scheduled):
                return None
            seen[name, shard] = tuple(counts.counters.get(event, 0) for event in _ARRIVALS)
    for name in types or ():
        if name not in known:
            raise UnknownTaskType(f"app {app!r} has no task type {name!r}: no task of it was enqueued yet")
    return seen


def _busy(counts: Counts, scheduled: bool) -> bool:
    due = counts.next_due_ms is not None and counts.next_due_ms <= counts.now_ms
    return bool(counts.ready or counts.running or counts.parked or due or (scheduled and counts.scheduled))


class IdleWait:
    """The pauses of a wait for idleness, until its deadline. An outage meanwhile does not end it."""

    def __init__(self, timeout: Duration | None) -> None:
        self._until = None if timeout is None else time.monotonic() + seconds(timeout, "timeout")
        self._looked = False
        self.outage: RedisUnavailable | None = None

    def pauses(self) -> Iterator[float]:
        """Yield how long to wait before the next look, until the deadline. Raises the error of an outage that
        lasts."""
        pause = FIRST
        while (left := self._left()) is None or left > 0:
            self._looked, self.outage = True, None
            yield pause if left is None else min(pause, left)
            pause = min(LONGEST, pause * 1.5)
        if self.outage is not None:
            raise self.outage

    def failed(self, error: RedisUnavailable) -> None:
        """Note an outage. Raises it at the first look: a wait should not start without any answer."""
        if not self._looked:
            raise error
        self.outage = error

    def _left(self) -> float | None:
        return None if self._until is None else self._until - time.monotonic()


def wait_idle(client: Client, within: Scope, timeout: Duration | None) -> bool:
    """Wait until no work is left; return False if the time is over first."""
    waiting = IdleWait(timeout)
    pauses = waiting.pauses()
    while True:
        try:
            if client.drive(idle(within)):
                return True
        except RedisUnavailable as error:
            waiting.failed(error)
        if (pause := next(pauses, None)) is None:
            return False
        time.sleep(pause)


async def await_idle(client: AsyncClient, within: Scope, timeout: Duration | None) -> bool:
    """Wait as `wait_idle` does, without blocking the event loop."""
    waiting = IdleWait(timeout)
    pauses = waiting.pauses()
    while True:
        try:
            if await client.drive(idle(within)):
                return True
        except RedisUnavailable as error:
            waiting.failed(error)
        if (pause := next(pauses, None)) is None:
            return False
        await asyncio.sleep(pause)
