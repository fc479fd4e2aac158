"""Questions about a queue; writes nothing, so a read-only user of the server can ask them.

Owns the list of questions, each written once for `Inspector` and for `AsyncInspector`, and which shards they
are asked in. Everything is read in bounded steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from streamq.audit import Audit, Auditor
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.control import action_log, heartbeats, lanes, overview, rollups, task_info
from streamq.control.action_log import Action, Pause
from streamq.control.dead_letters import DeadGroups, DeadSelection, Groups
from streamq.control.facade import AsyncFacade, Facade, SyncFacade, operation
from streamq.control.heartbeats import WorkerInfo
from streamq.control.lanes import LaneInfo
from streamq.control.overview import GLANCE, TypeStats
from streamq.control.rollups import Rollup, Span
from streamq.control.task_info import TaskInfo
from streamq.control.task_list import TaskFilter, TaskList, TaskPage
from streamq.control.unreadable import Unreadable, whole
from streamq.errors import RedisUnavailable
from streamq.flow import Flow, ask, drive, in_turn
from streamq.keys import shard_keys, type_keys
from streamq.model.reply import COUNTERS, Counts
from streamq.model.task import State
from streamq.namespace import namespace_of
from streamq.shards import MOST, AppRecord

if TYPE_CHECKING:
    from typing import Self

    from streamq.control.event_tail import AsyncTail, Tail
    from streamq.transport.sync_transport import SyncTransport

_NOTHING: Final = dict.fromkeys(COUNTERS, 0)


class Questions(Facade):
    """What may be asked about one app, over all shards that may hold something, and at least `shards`."""

    def __init__(self, app: str, shards: int) -> None:
        super().__init__(app, shards)
        self._unreadable = Unreadable()
        self._only: tuple[int, ...] | None = None

    @property
    def faults(self) -> list[str]:
        """What could not be read so far, each in words that name the key: answers are without it."""
        return list(self._unreadable.told)

    def within(self, shards: Sequence[int]) -> Self:
        """Return an inspector of these shards only, whatever the server knows of others: what lies in those
        is not in its answers. Faults of both are told by both."""
        found = copy.copy(self)
        found._only = tuple(shards)  # noqa: SLF001 - its own class
        return found

    @property
    def partial(self) -> bool:
        """Whether it looks at the shards it was given only."""
        return self._only is not None

    @operation
    def shards(self) -> Flow[int]:
        """Return how many shards there are to look at: those in use, and those that producers have left and
        that are not yet empty. It changes while the app lives."""
        return self._number()

    def _number(self) -> Flow[int]:
        nobody_knows = AppRecord(known=0)
        record = yield from self._unreadable.ask(producer_calls.app_record(self._app), lambda: nobody_knows)
        if record is nobody_knows:
            return max(self._shards, (yield from self._guessed()))
        return max(self._shards, record.known if record is not None else 1)

    def _guessed(self) -> Flow[int]:
        """How many shards there are where the app's record cannot be read: task types are known in each."""
        for shard in range(1, MOST):
            if not (
                yield from self._unreadable.ask(question_calls.types(shard_keys(self._app, shard)), list)
            ):
                return shard
        return MOST

    @operation
    def each(self) -> Flow[Sequence[int]]:
        """Return the shards that are looked at."""
        return self._each()

    def _each(self) -> Flow[Sequence[int]]:
        return self._only if self._only is not None else range((yield from self._number()))

    # -- task types --------------------------------------------------------------------------------------

    @operation
    def types(self) -> Flow[list[str]]:
        """Return the task types that were ever registered or enqueued, sorted."""
        return (yield from self._types((yield from self._each())))

    def _types(self, shards: Sequence[int]) -> Flow[list[str]]:
        before, found = len(self._unreadable.told), set[str]()
        for n in shards:
            found.update(
                (yield from self._unreadable.ask(question_calls.types(shard_keys(self._app, n)), list))
            )
        if len(self._unreadable.told) > before:
            found |= _served((yield from self._workers()))
        return sorted(found)

    @operation
    def glance(self, most: int = GLANCE) -> Flow[tuple[list[str], int]]:
        """Return the task types of an overview, and how many are left out of it: an overview asks about so
        many in all shards, however many there are. Those that a living worker serves come first."""
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
        look = self._unreadable
        return (yield from in_turn(overview.type_stats(self._app, name, shards, look) for name in types))

    @operation
    def type_stats(self, task_type: str) -> Flow[TypeStats]:
        """Return one task type with its states and counters. Those of a shard that was given up count no
        more."""
        shards = yield from self._each()
        return (yield from overview.type_stats(self._app, task_type, shards, self._unreadable))

    @operation
    def counts(self, task_type: str, shard: int) -> Flow[Counts]:
        """Return one type in one shard at one instant."""
        found = yield from ask(question_calls.counts(type_keys(self._app, shard, task_type)))
        return replace(found, counters=_NOTHING | found.counters)

    @operation
    def policy(self, task_type: str) -> Flow[dict[str, str]]:
        """Return what is stored of a type's policy, by the names of the options with their units."""
        return self._unreadable.ask(question_calls.policy(type_keys(self._app, 0, task_type)), dict)

    @operation
    def paused(self) -> Flow[dict[str, Pause]]:
        """Return the task types that workers leave alone, by name."""
        return (yield from action_log.paused(self._app, (yield from self._each()), self._unreadable))

    @operation
    def rollups(
        self, task_type: str, span: Span = "hour", *, since_ms: int = 0, now_ms: int | None = None
    ) -> Flow[list[Rollup]]:
        """Return what happened to a type in the last 60 minutes or in the last 96 quarters of an hour, oldest
        first. Counts are noted by the daemon, waiting and running times by the workers.

        since_ms: without the slices that began before. now_ms: the server's clock, where it is known; what is
        read with the same has the same slices.
        """
        shards, look = (yield from self._each()), self._unreadable
        read = rollups.read(self._app, shards, task_type, span, look, since_ms=since_ms, now_ms=now_ms)
        return (yield from read)

    @operation
    def lanes(self, task_type: str, lane: str | None = None) -> Flow[list[LaneInfo]]:
        """Return the lanes of a type that have parked tasks, or this one lane; who has waited longest first.
        Of very many lanes two thousand a shard are looked at."""
        shards = yield from self._each()
        return (yield from lanes.read(self._app, task_type, shards, self._unreadable, only=lane))

    # -- tasks -------------------------------------------------------------------------------------------

    @operation
    def task(self, task_id: str) -> Flow[TaskInfo]:
        """Return where a task is and what is stored of it. Raises InvalidTaskId, and ServerError where a key
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
        wanted: TaskFilter | None = None,
    ) -> Flow[TaskPage]:
        """Return a page of the tasks in a state, of one type or of all, from `cursor` on; at most 200 rows.

        A page is bounded: with a filter it may hold fewer rows than asked for, even none, and still have
        a cursor to go on from. Types come one after the other. Ready, running and scheduled tasks come in
        the order in which they are run, completed ones newest first, both shard by shard; dead, cancelled
        and expired ones newest first over all shards. Raises UsageError.
        """
        shards = yield from self._each()
        types = (yield from self._types(shards)) if task_type is None else [task_type]
        listed = TaskList(self._app, shards)
        page = yield from listed.page(state, types, cursor, limit, wanted or TaskFilter())
        self._unreadable.note(*page.faults)
        return page

    @operation
    def dead_groups(self, task_type: str | None = None) -> Flow[DeadGroups]:
        """Return dead letters by fault: the error and the place in the code, with how many and since when."""
        shards = yield from self._each()
        types = (yield from self._types(shards)) if task_type is None else [task_type]
        found = yield from Groups(self._app, shards).read(types)
        self._unreadable.note(*found.faults)
        return found

    @operation
    def count_dead(self, selection: DeadSelection) -> Flow[int]:
        """Return how many dead letters are selected."""
        return (yield from Groups(self._app, (yield from self._each())).count(selection))

    # -- who works on it, and where ----------------------------------------------------------------------

    @operation
    def workers(self) -> Flow[list[WorkerInfo]]:
        """Return the workers that send heartbeats, or did not long ago. A worker beats in the first shard;
        raises RedisUnavailable where that is not looked at."""
        return self._workers()

    def _workers(self) -> Flow[list[WorkerInfo]]:
        if self._only is not None and 0 not in self._only:
            raise RedisUnavailable("the shard that workers send heartbeats to is away")
        return (yield from heartbeats.workers(self._app, self._unreadable))

    @operation
    def daemons(self) -> Flow[list[WorkerInfo]]:
        """Return the daemons that serve this app, and send heartbeats or did not long ago."""
        return self._daemons()

    def _daemons(self) -> Flow[list[WorkerInfo]]:
        found = yield from heartbeats.daemons(namespace_of(self._app), self._unreadable)
        return [one for one in found if one.details.get("only") in (None, self._app)]

    @operation
    def daemons_alive(self) -> Flow[int]:
        """Return how many daemons serve this app now; 0: delayed tasks, retries and lost deliveries wait."""
        return sum(one.alive for one in (yield from self._daemons()))

    @operation
    def actions(self, limit: int = 100) -> Flow[list[Action]]:
        """Return what operators did last, newest first: the latest thousand are kept."""
        shards = yield from self._each()
        return (yield from action_log.actions(self._app, shards, limit, self._unreadable))

    @operation
    def server(self) -> Flow[dict[str, str]]:
        """Return what the server says of itself (INFO): version, memory, persistence, clients."""
        return ask(question_calls.info())

    @operation
    def now_ms(self) -> Flow[int]:
        """Return the server's clock."""
        return ask(question_calls.now())

    @operation
    def audit(self, progress: Callable[[int], None] = lambda _: None) -> Flow[Audit]:
        """Check every invariant that stored data can tell, in bounded steps, while the queue works.

        `progress` is told how many entries have been checked.
        """
        return (yield from Auditor(self._app, (yield from self._number()), progress=progress).run())


class Inspector(SyncFacade, Questions, called="app.inspector", awaited="app.ainspector"):
    """Asks about one app on one server, over all shards that may hold something, and at least `shards`."""

    def tail(self) -> Tail:
        """Return what happens to tasks, as it happens: `with inspector.tail() as events`, then iterate.
        Workers tell it only while somebody listens, which a key with a short life tells them."""
        from streamq.control.event_tail import Tail  # noqa: PLC0415 - most never listen

        return Tail(self.transport, self._app, self._shards)


class AsyncInspector(AsyncFacade, Questions):
    """As Inspector, for event loops: `await app.ainspector.stats()`."""

    def tail(self) -> AsyncTail:
        """As `Inspector.tail`: `async with inspector.tail() as events`, then `async for`."""
        from streamq.control.event_tail import AsyncTail  # noqa: PLC0415 - as above

        return AsyncTail(self.transport, self._app, self._shards)


def _served(workers: Iterable[WorkerInfo]) -> set[str]:
    """The task types that these workers say they serve."""
    told = (one.details.get("types", []) for one in workers)
    return {name for names in told if isinstance(names, list) for name in names if isinstance(name, str)}


def apps(transport: SyncTransport) -> dict[str, AppRecord]:
    """Return the apps on a server with what it knows of them. Raises ServerError where that cannot be
    read."""
    return drive(transport, whole(question_calls.apps(transport.address.namespace), "the record of apps"))
