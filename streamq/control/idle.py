"""Is the queue idle: nothing ready, nothing running, nothing due.

Owns what idle means and the waiting for it. A task of one type may enqueue one of another while we look from
type to type, so a queue is called idle only where two looks in a row see nothing and nothing was accepted
between them. Writes nothing.
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
from streamq.model.reply import Counts
from streamq.options.checks import Duration, seconds
from streamq.registry.handler import check_name

if TYPE_CHECKING:
    from streamq.client.async_client import AsyncClient

FIRST: Final = 0.02
LONGEST: Final = 1.0
"""Seconds between two looks: at first, and at most."""
_CAME: Final = ("accepted", "requeued", "adopted", "started", "handed_back", "reclaimed")
"""The counters that tell of tasks that came to be ready, or left it, between two looks."""

_Seen = dict[tuple[str, int], tuple[int, ...]]


class Scope(NamedTuple):
    """What is to be idle: these task types, or all; with `scheduled` also what is due later only."""

    app: str
    shards: int
    types: tuple[str, ...] | None
    scheduled: bool


def scope(app: str, shards: int, types: str | Iterable[str] | None, *, scheduled: bool) -> Scope:
    """Return a scope from what a caller gave."""
    if types is not None:
        types = (types,) if isinstance(types, str) else tuple(types)
        for name in types:
            check_name(name)
    return Scope(app, shards, types, scheduled)


def idle(within: Scope) -> Flow[bool]:
    """Ask whether nothing is left to do."""
    first = yield from _look(within)
    return first is not None and first == (yield from _look(within))


def _look(within: Scope) -> Flow[_Seen | None]:
    """Return the counters of every type in every shard; None as soon as there is something to do."""
    app, shards, types, scheduled = within
    record = yield Ask(producer_calls.app_record(app))
    seen: _Seen = {}
    known: set[str] = set()
    for shard in range(max(shards, record.known if record is not None else 1)):
        there: list[str] = yield Ask(question_calls.types(shard_keys(app, shard)))
        known |= set(there)
        for name in there if types is None else set(there).intersection(types):
            counts: Counts = yield Ask(question_calls.counts(type_keys(app, shard, name)))
            if _busy(counts, scheduled):
                return None
            seen[name, shard] = tuple(counts.counters.get(event, 0) for event in _CAME)
    for name in types or ():
        if name not in known:
            raise UnknownTaskType(f"app {app!r} has no task type {name!r}: nothing was enqueued of it yet")
    return seen


def _busy(counts: Counts, scheduled: bool) -> bool:
    due = counts.next_due_ms is not None and counts.next_due_ms <= counts.now_ms
    return bool(counts.ready or counts.running or counts.parked or due or (scheduled and counts.scheduled))


class Waiting:
    """The pauses of a wait for idleness; the deadline ends it. An outage on the way is waited out."""

    def __init__(self, timeout: Duration | None) -> None:
        self._until = None if timeout is None else time.monotonic() + seconds(timeout, "timeout")
        self._looked = False
        self.away: RedisUnavailable | None = None

    def pauses(self) -> Iterator[float]:
        """Yield how long to wait before the next look, until the time is up."""
        pause = FIRST
        while (left := self._left()) is None or left > 0:
            self._looked, self.away = True, None
            yield pause if left is None else min(pause, left)
            pause = min(LONGEST, pause * 1.5)
        if self.away is not None:
            raise self.away

    def failed(self, error: RedisUnavailable) -> None:
        """Note an outage; the first look raises it, since a wait should not begin in the dark."""
        if not self._looked:
            raise error
        self.away = error

    def _left(self) -> float | None:
        return None if self._until is None else self._until - time.monotonic()


def wait_idle(client: Client, within: Scope, timeout: Duration | None) -> bool:
    """Wait until nothing is left to do; False where the time is up first."""
    waiting = Waiting(timeout)
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
    """As `wait_idle`, without blocking the event loop."""
    waiting = Waiting(timeout)
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
