"""Queries about a queue, for which a read-only user of the server is enough.

Owns the queries, each written once for `Inspector` and for `AsyncInspector`, and the shards that they read.
All reads are bounded. Must not write.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from streamq.audit import Audit, Auditor
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.client.task_event import TaskEvent
from streamq.control import (
    action_log,
    heartbeats,
    lanes,
    overview,
    rollups,
    standstill,
    task_info,
    unique_locks,
)
from streamq.control.action_log import Action, Pause
from streamq.control.dead_letters import DeadGroups, DeadSelection, Groups
from streamq.control.facade import AsyncFacade, Facade, SyncFacade, operation
from streamq.control.key_use import KeyUse, KeyUses
from streamq.control.lanes import LaneInfo
from streamq.control.overview import GLANCE, TypeStats
from streamq.control.rollups import Rollup, Span
from streamq.control.standstill import Standstill
from streamq.control.task_info import TaskInfo, progress_of
from streamq.control.task_list import TaskList, TaskPage
from streamq.control.task_rows import TaskFilter
from streamq.control.unique_locks import UniqueLock
from streamq.control.unreadable import Unreadable, whole
from streamq.errors import RedisUnavailable
from streamq.flow import Flow, ask, drive, in_turn
from streamq.heartbeat import WorkerInfo
from streamq.keys import shard_keys, type_keys
from streamq.model.counts import COUNTERS, Counts
from streamq.model.task import State
from streamq.namespace import namespace_of, with_ring
from streamq.options.lane import lane_name
from streamq.shards import MOST, AppRecord

if TYPE_CHECKING:
    from typing import Self

    from streamq.control.event_tail import AsyncTail, Tail
    from streamq.transport.sync_transport import SyncTransport

_NOTHING: Final = dict.fromkeys(COUNTERS, 0)


class Questions(Facade):
    """The queries about one app, over all shards that may hold tasks, and at least `shards`."""

    def __init__(self, app: str, shards: int) -> None:
        super().__init__(app, shards)
        self._unreadable = Unreadable()
        self._only: tuple[int, ...] | None = None

    @property
    def faults(self) -> list[str]:
        """The faults of stored data so far, each with the key: results do not include that data."""
        return list(self._unreadable.faults)

    def within(self, shards: Sequence[int]) -> Self:
        """Return an inspector of these shards only: its results do not include other shards. Both report the
        faults of both."""
        found = copy.copy(self)
        found._only = tuple(shards)  # noqa: SLF001 - its own class
        return found

    def without_keys(self) -> Self:
        """Return an inspector that shows of what is sealed only that it is."""
        found = copy.copy(self)
        found._app = with_ring(self._app, None)  # noqa: SLF001 - its own class
        return found

    @property
    def partial(self) -> bool:
        """Whether it reads only the shards given to `within`."""
        return self._only is not None

    @operation
    def shards(self) -> Flow[int]:
        """Return how many shards are read: those in use, and former ones that are not empty yet. The number
        changes while the app lives."""
        return self._number()

    def _number(self) -> Flow[int]:
        unknown = AppRecord(known=0)
        record = yield from self._unreadable.ask(producer_calls.app_record(self._app), lambda: unknown)
        if record is unknown:
            return max(self._shards, (yield from self._guessed()))
        return max(self._shards, record.known if record is not None else 1)

    def _guessed(self) -> Flow[int]:
        """Return the number of shards if the app's record cannot be read: each shard has task types."""
        for shard in range(1, MOST):
            if not (
                yield from self._unreadable.ask(question_calls.types(shard_keys(self._app, shard)), list)
            ):
                return shard
        return MOST

    @operation
    def each(self) -> Flow[Sequence[int]]:
        """Return the shards that are read."""
        return self._each()

    def _each(self) -> Flow[Sequence[int]]:
        return self._only if self._only is not None else range((yield from self._number()))

    @operation
    def progress(self, ids: Sequence[str]) -> Flow[dict[str, TaskEvent]]:
        """Return how far these tasks are by their ids, of those whose handlers told it lately."""
        return progress_of(self._app, ids, self._unreadable)

    # -- task types --------------------------------------------------------------------------------------

    @operation
    def types(self) -> Flow[list[str]]:
        """Return all task types that were ever registered or enqueued, sorted."""
        return (yield from self._types((yield from self._each())))

    def _types(self, shards: Sequence[int]) -> Flow[list[str]]:
        before, found = len(self._unreadable.faults), set[str]()
        for n in shards:
            found.update(
                (yield from self._unreadable.ask(question_calls.types(shard_keys(self._app, n)), list))
            )
        if len(self._unreadable.faults) > before:
            found |= _served((yield from self._workers()))
        return sorted(found)

    @operation
    def glance(self, most: int = GLANCE) -> Flow[tuple[list[str], int]]:
        """Return the task types of an overview, and how many it leaves out: an overview reads a limited
        number, over all shards. Types that a living worker serves come first."""
        shards = yield from self._each()
        types = yield from self._types(shards)
        found = overview.glance(types, (), len(shards), most)
        if not found[1]:
            return found
        try:
            workers = yield from self._workers()
        except RedisUnavailable:
            workers = []
        return overview.glance(types, _served(one for one in workers if one.alive), len(shards), most)

    @operation
    def stats(self, types: Sequence[str] | None = None) -> Flow[list[TypeStats]]:
        """Return each task type, or each of these, with its states and counters."""
        shards = yield from self._each()
        types = (yield from self._types(shards)) if types is None else types
        unreadable = self._unreadable
        return (
            yield from in_turn(overview.type_stats(self._app, name, shards, unreadable) for name in types)
        )

    @operation
    def type_stats(self, task_type: str) -> Flow[TypeStats]:
        """Return one task type with its states and counters. Those of a closed shard no longer count."""
        shards = yield from self._each()
        return (yield from overview.type_stats(self._app, task_type, shards, self._unreadable))

    @operation
    def counts(self, task_type: str, shard: int) -> Flow[Counts]:
        """Return one type in one shard at one instant."""
        found = yield from ask(question_calls.counts(type_keys(self._app, shard, task_type)))
        return replace(found, counters=_NOTHING | found.counters)

    @operation
    def policy(self, task_type: str) -> Flow[dict[str, str]]:
        """Return the stored policy of a type, by the names of the options with their units."""
        return self._unreadable.ask(question_calls.policy(type_keys(self._app, 0, task_type)), dict)

    @operation
    def paused(self) -> Flow[dict[str, Pause]]:
        """Return the paused task types, by name."""
        return (yield from action_log.paused(self._app, (yield from self._each()), self._unreadable))

    @operation
    def rollups(
        self, task_type: str, span: Span = "hour", *, since_ms: int = 0, now_ms: int | None = None
    ) -> Flow[list[Rollup]]:
        """Return the rollups of a type for the last 60 minutes or the last 96 quarters of an hour, oldest
        first. The daemon writes the counts, workers the waiting and running times.

        since_ms: without slices that began before. now_ms: the server's clock, if it is known; reads with the
        same value have the same slices.
        """
        shards, unreadable = (yield from self._each()), self._unreadable
        read = rollups.read(self._app, shards, task_type, span, unreadable, since_ms=since_ms, now_ms=now_ms)
        return (yield from read)

    @operation
    def lanes(self, task_type: str, lane: str | None = None) -> Flow[list[LaneInfo]]:
        """Return the lanes of a type that have parked tasks, or this one lane; who has waited longest first.
        At most 2,000 lanes of each shard are read. Raises InvalidOption if `lane` cannot be a lane's name."""
        if lane is not None:
            lane_name(lane, "lane")
        shards = yield from self._each()
        return (yield from lanes.read(self._app, task_type, shards, self._unreadable, only=lane))

    @operation
    def standstill(self, stats: Sequence[TypeStats]) -> Flow[Standstill]:
        """Return what stands still: lanes that dead letters halt or that are paused, of those of these types
        in which tasks wait; flows that do not go on; schedules whose runs are late."""
        shards = yield from self._each()
        return (yield from standstill.standstill(self._app, shards, stats, self._unreadable))

    # -- tasks -------------------------------------------------------------------------------------------

    @operation
    def task(self, task_id: str) -> Flow[TaskInfo]:
        """Return the state of a task and what is stored of it. Raises InvalidTaskId, and ServerError if a key
        that it needs cannot be read."""
        return task_info.task_info(self._app, task_id, self._unreadable)

    @operation
    def tasks(
        self,
        state: State,
        task_type: str | None = None,
        *,
        cursor: str = "",
        limit: int = 50,
        filter: TaskFilter | None = None,  # noqa: A002 - the standard word for it
    ) -> Flow[TaskPage]:
        """Return a page of the tasks in a state, of one type or of all, from `cursor` on; at most 200 rows.

        A page is bounded: with a filter it may have fewer rows than `limit`, even none, and still a cursor
        for the next page. Types follow one after the other. Ready, running and scheduled tasks are in the
        order in which they run, shard by shard; dead, cancelled and expired ones are newest first over all
        shards, and completed ones, by the minute in which they were enqueued, over all types too. Raises
        UsageError.
        """
        shards = yield from self._each()
        types = (yield from self._types(shards)) if task_type is None else [task_type]
        listed = TaskList(self._app, shards)
        page = yield from listed.page(state, types, cursor, limit, filter or TaskFilter())
        self._unreadable.note(*page.faults)
        return page

    @operation
    def dead_groups(self, task_type: str | None = None) -> Flow[DeadGroups]:
        """Return dead letters in groups, by error and line of code, with how many and since when."""
        shards = yield from self._each()
        types = (yield from self._types(shards)) if task_type is None else [task_type]
        found = yield from Groups(self._app, shards).read(types)
        self._unreadable.note(*found.faults)
        return found

    @operation
    def count_dead(self, selection: DeadSelection) -> Flow[int]:
        """Return how many dead letters are selected."""
        return (yield from Groups(self._app, (yield from self._each())).count(selection))

    @operation
    def key_use(self) -> Flow[list[KeyUse]]:
        """Return how much is sealed with each key, of all that is stored: a key of which there is nothing can
        leave the ring. Reads every task: for the time after a rotation, not for every minute."""
        shards = yield from self._each()
        types = yield from self._types(shards)
        return (yield from KeyUses(self._app, shards, self._unreadable).count(types))

    # -- workers, daemons and the server -----------------------------------------------------------------

    @operation
    def workers(self) -> Flow[list[WorkerInfo]]:
        """Return the workers that send heartbeats, or did recently. They are in the first shard: raises
        RedisUnavailable if that is not read."""
        return self._workers()

    def _workers(self) -> Flow[list[WorkerInfo]]:
        if self._only is not None and 0 not in self._only:
            raise RedisUnavailable("the first shard, with the workers' heartbeats, is unreachable")
        return (yield from heartbeats.workers(self._app, self._unreadable))

    @operation
    def locks(self, task_type: str, limit: int = 1000) -> Flow[list[UniqueLock]]:
        """Return at most `limit` locks of a type's unique keys, each with its holder and successor."""
        shards = yield from self._each()
        return (yield from unique_locks.locks(self._app, list(shards), task_type, limit, self._unreadable))

    @operation
    def lock(self, task_type: str, key: str) -> Flow[UniqueLock | None]:
        """Return the lock of one unique key, by the digest that `locks` shows, or by the text of a call's
        `unique`; None if no task holds it."""
        return (yield from unique_locks.lock(self._app, list((yield from self._each())), task_type, key))

    @operation
    def daemons(self) -> Flow[list[WorkerInfo]]:
        """Return the daemons that serve this app, and send heartbeats or did recently."""
        return self._daemons()

    def _daemons(self) -> Flow[list[WorkerInfo]]:
        found = yield from heartbeats.daemons(namespace_of(self._app), self._unreadable)
        return [one for one in found if one.details.get("only") in (None, self._app)]

    @operation
    def daemons_alive(self) -> Flow[int]:
        """Return how many daemons serve this app now; with 0, delayed tasks, retries and lost deliveries
        wait."""
        return sum(one.alive for one in (yield from self._daemons()))

    @operation
    def actions(self, limit: int = 100) -> Flow[list[Action]]:
        """Return the latest actions of operators, newest first; a thousand are kept."""
        shards = yield from self._each()
        return (yield from action_log.actions(self._app, shards, limit, self._unreadable))

    @operation
    def server(self) -> Flow[dict[str, str]]:
        """Return the server's INFO: version, memory, persistence, clients."""
        return ask(question_calls.info())

    @operation
    def now_ms(self) -> Flow[int]:
        """Return the server's clock."""
        return ask(question_calls.now())

    @operation
    def audit(self, progress: Callable[[int], None] = lambda _: None) -> Flow[Audit]:
        """Check every invariant of the stored data, in bounded steps, while the queue works.

        progress: called with the number of entries that have been checked.
        """
        return (yield from Auditor(self._app, (yield from self._number()), progress=progress).run())


class Inspector(SyncFacade, Questions, called="app.inspector", awaited="app.ainspector"):
    """Queries one app on one server, over all shards that may hold tasks, and at least `shards`."""

    def tail(self) -> Tail:
        """Return the live events of tasks: `with inspector.tail() as events`, then iterate. Workers publish
        them only while a key with a short lifetime exists, which this renews."""
        from streamq.control.event_tail import Tail  # noqa: PLC0415 - rarely used

        return Tail(self.transport, self._app, self._shards)


class AsyncInspector(AsyncFacade, Questions):
    """Queries as Inspector does, for event loops: `await app.ainspector.stats()`."""

    def tail(self) -> AsyncTail:
        """Return the live events, as `Inspector.tail` does: `async with inspector.tail() as events`, then
        `async for`."""
        from streamq.control.event_tail import AsyncTail  # noqa: PLC0415 - as above

        return AsyncTail(self.transport, self._app, self._shards)


def _served(workers: Iterable[WorkerInfo]) -> set[str]:
    """Return the task types that these workers serve."""
    lists = (one.details.get("types", []) for one in workers)
    return {name for names in lists if isinstance(names, list) for name in names if isinstance(name, str)}


def apps(transport: SyncTransport, *, patience: float | None = None) -> dict[str, AppRecord]:
    """Return the apps on a server, with their records. Raises ServerError if these cannot be read. patience:
    another than the transport's."""
    asked = whole(question_calls.apps(transport.address.namespace), "the record of apps")
    return drive(transport, asked, patience=patience)
