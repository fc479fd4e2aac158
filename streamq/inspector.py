"""Questions about a queue; writes nothing, so a read-only user of the server can ask them.

Owns the counting over shards, the description of a task, the lists of workers and daemons.
Everything is read in bounded steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

from streamq import calls, codec
from streamq.audit import Audit, Auditor
from streamq.blocking import plain
from streamq.deadgroups import DeadGroups, DeadSelection, Groups
from streamq.errors import RedisUnavailable
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model import COUNTERS, Counts, DeadLetter, Located, State, Success, TaskId
from streamq.operations import Action, Operations, Pause
from streamq.rollups import Rollup, Rollups, Span
from streamq.shards import MOST, AppRecord
from streamq.stored import count, mapping, real
from streamq.tail import Tail
from streamq.tasklist import TaskFilter, TaskList, TaskPage, failed_attempts
from streamq.transport import SyncTransport
from streamq.unreadable import Unreadable, whole

HEARTBEATS_MISSED: Final = 3
GLANCE: Final = 1000
"""Task types times shards that an overview asks about: its cost has a bound, however many types there are."""
LEAST_SHOWN: Final = 20
_LONGEST_BEAT: Final = 1e6
"""Seconds between two heartbeats at most."""
_NOTHING: Final = dict.fromkeys(COUNTERS, 0)
_NO_COUNTS: Final = Counts(0, 0, 0, 0, 0, 0, None, None)
_UNREAD: Final[dict[str, bytes]] = {}
_TOLD: Final = {
    "types": list, "running": list, "problems": list, "concurrency": int, "running_count": int, "pid": int,
    "host": str, "version": str, "only": str, "speaks": list, "too_new": list,
}  # fmt: skip
"""What a heartbeat tells, and of what kind it is."""


@dataclass(frozen=True, slots=True)
class TypeStats:
    """One task type over all shards. Ages are seconds; None where there is nothing.

    `ready`, `running`, `scheduled`, `dead`: how many tasks are in these states now; `suspect`: how many of
    those ready or running ran when their worker died. `counters`: what has happened since the type was first
    used, by name; each is there, 0 where it never happened (`streamq.COUNTERS` has the names):

    accepted: enqueued. started: attempts that ended, or whose worker died. completed. retried: attempts that
    failed and are tried again. dead: became a dead letter. reclaimed: taken back from a silent worker.
    cancelled, expired: ended so. handed_back: returned unfinished by a worker that drained. requeued, purged:
    dead letters put back, deleted. adopted, repaired, vanished: see `streamq audit`.

    `fault`: which key of the type cannot be read, '' where all can. What lies in its shard is not counted.
    """

    type: str
    ready: int
    running: int
    scheduled: int
    dead: int
    suspect: int
    oldest_ready_age: float | None
    next_due_in: float | None
    counters: dict[str, int]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """Everything that is known of one task. `failures`: the errors of its attempts, oldest first.

    `success`: the attempt that completed it; its worker is a name, or `…` and the name's last digits where
    that one is long gone. None where an older release completed the task.
    """

    id: str
    type: str
    state: State
    payload: bytes | None
    attempts_failed: int
    lost: int
    failures: list[dict[str, Any]]
    detail: dict[str, str]
    result: bytes | None
    success: Success | None = None
    fields: dict[str, bytes] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker or daemon by its last heartbeat. `alive`: it was not longer ago than three heartbeats."""

    name: str
    alive: bool
    last_beat_age: float
    details: dict[str, Any]


@plain("app.inspector")
class Inspector:
    """Asks about one app on one server, over all shards that may hold something, and at least `shards`."""

    def __init__(self, transport: SyncTransport, app: str, shards: int = 1) -> None:
        self._transport = transport
        self._app = transport.address.namespace.app(app)
        self._shards = shards
        self._unreadable = Unreadable(transport)

    if not TYPE_CHECKING:  # which would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.elsewhere import missing  # noqa: PLC0415 - for a slip only

            missing("Inspector", name)

    @property
    def transport(self) -> SyncTransport:
        """What it asks through: the doctor has questions of its own."""
        return self._transport

    @property
    def app(self) -> str:
        """The app's name."""
        return self._app

    @property
    def faults(self) -> list[str]:
        """What could not be read so far, each in words that name the key: answers are without it."""
        return list(self._unreadable.told)

    def shards(self) -> int:
        """How many shards to look at: those in use, and those that producers have left and that are not
        yet empty. It changes while the app lives."""
        nobody_knows = AppRecord(known=0)
        record = self._part(calls.app_record(self._app), lambda: nobody_knows)
        known = self._guessed() if record is nobody_knows else record.known if record is not None else 1
        return max(self._shards, known)

    def _guessed(self) -> int:
        """How many shards there are where the app's record cannot be read: task types are known in each."""
        there = (n for n in range(1, MOST) if not self._part(calls.types(self._shard(n)), list))
        return next(there, MOST)

    def each(self) -> Sequence[int]:
        """The shards that are looked at."""
        return range(self.shards())

    def types(self) -> list[str]:
        """The task types that were ever registered or enqueued, sorted."""
        return self._types(self.each())

    def _types(self, shards: Sequence[int]) -> list[str]:
        before = len(self._unreadable.told)
        found = {name for n in shards for name in self._part(calls.types(self._shard(n)), list)}
        if len(self._unreadable.told) > before:
            told = (one.details.get("types", []) for one in self.workers())
            found |= {name for names in told for name in names if isinstance(name, str)}
        return sorted(found)

    def glance(self, most: int = GLANCE) -> tuple[list[str], int]:
        """The task types of an overview, and how many are left out of it: an overview asks about so many in
        all shards, however many there are. Those that a living worker serves come first."""
        types, most = self.types(), max(LEAST_SHOWN, most // max(1, len(self.each())))
        if len(types) <= most:
            return types, 0
        served = self._served()
        chosen = sorted(types, key=lambda name: (name not in served, name))[:most]
        return sorted(chosen), len(types) - most

    def _served(self) -> set[str]:
        """The task types of the workers that are alive."""
        try:
            told = [one.details.get("types") for one in self.workers() if one.alive]
        except RedisUnavailable:
            return set()
        return {name for types in told if isinstance(types, list) for name in types if isinstance(name, str)}

    def stats(self, types: Sequence[str] | None = None) -> list[TypeStats]:
        """Each task type, or each of these, with its states and counters."""
        shards = self.each()
        return [self._type_stats(name, shards) for name in (self._types(shards) if types is None else types)]

    def type_stats(self, task_type: str) -> TypeStats:
        """One task type with its states and counters. Those of a shard that was given up count no more."""
        return self._type_stats(task_type, self.each())

    def _type_stats(self, task_type: str, shards: Sequence[int]) -> TypeStats:
        look = Unreadable(self._transport)
        read = (look.ask(calls.counts(self._type(task_type, n)), lambda: _NO_COUNTS) for n in shards)
        per_shard = list(read)
        self._unreadable.note(*look.told)
        oldest = [c.now_ms - c.oldest_ready_ms for c in per_shard if c.oldest_ready_ms is not None]
        due = [c.next_due_ms - c.now_ms for c in per_shard if c.next_due_ms is not None]
        return TypeStats(
            type=task_type,
            ready=sum(c.ready for c in per_shard),
            running=sum(c.running for c in per_shard),
            scheduled=sum(c.scheduled for c in per_shard),
            dead=sum(c.dead for c in per_shard),
            suspect=sum(c.suspect for c in per_shard),
            oldest_ready_age=max(0, *oldest) / 1000 if oldest else None,
            next_due_in=min(due) / 1000 if due else None,
            counters=_NOTHING | _sum(c.counters for c in per_shard),
            fault="; ".join(look.told),
        )

    def counts(self, task_type: str, shard: int) -> Counts:
        """One type in one shard at one instant."""
        found = self._ask(calls.counts(self._type(task_type, shard)))
        return replace(found, counters=_NOTHING | found.counters)

    def task(self, task_id: str) -> TaskInfo:
        """Where a task is and what is stored of it. Raises InvalidTaskId, and ServerError where a key that
        it needs cannot be read."""
        task = TaskId.parse(task_id)
        call = calls.locate(self._type(task.type, task.shard), task.local)
        located = whole(self._transport, call, f"task {task_id}")
        return _task_info(task, located, self._named(located.success))

    def _named(self, success: Success | None) -> Success | None:
        """With the worker's whole name, where it sends heartbeats or did not long ago."""
        if success is None:
            return None
        beats = self._part(calls.workers(self._shard(0)), list)
        found = (name for name, _ in beats if name.endswith(f"-{success.worker}"))
        return success._replace(worker=next(found, f"…{success.worker}"))

    def dead(self, task_type: str, *, start: int = 0, limit: int = 100) -> list[DeadLetter]:
        """A page of a type's dead letters, newest first, shard by shard."""
        page: list[DeadLetter] = []
        for shard in range(self.shards()):
            held = self.counts(task_type, shard).dead
            if start < held and len(page) < limit:
                listed = self._ask(calls.dead_page(self._type(task_type, shard), start, limit - len(page)))
                page += listed
            start = max(0, start - held)
        return page

    def tasks(
        self,
        state: State,
        task_type: str | None = None,
        *,
        cursor: str = "",
        limit: int = 50,
        wanted: TaskFilter | None = None,
    ) -> TaskPage:
        """A page of the tasks in a state, of one type or of all, from `cursor` on; at most 200 rows.

        A page is bounded: with a filter it may hold fewer rows than asked for, even none, and still have
        a cursor to go on from. Types come one after the other. Ready, running and scheduled tasks come in
        the order in which they are run, completed ones newest first, both shard by shard; dead, cancelled
        and expired ones newest first over all shards. Raises UsageError.
        """
        listed = TaskList(self._transport, self._app, self.shards())
        types = self.types() if task_type is None else [task_type]
        page = listed.page(state, types, cursor, limit, wanted or TaskFilter())
        self._unreadable.note(*page.faults)
        return page

    def dead_groups(self, task_type: str | None = None) -> DeadGroups:
        """Dead letters by fault: the error and the place in the code, with how many and since when."""
        found = self._groups().read(self.types() if task_type is None else [task_type])
        self._unreadable.note(*found.faults)
        return found

    def count_dead(self, selection: DeadSelection) -> int:
        """How many dead letters are selected."""
        return self._groups().count(selection)

    def paused(self) -> dict[str, Pause]:
        """The task types that workers leave alone, by name."""
        return self._operations().paused()

    def actions(self, limit: int = 100) -> list[Action]:
        """What operators did last, newest first: the latest thousand are kept."""
        return self._operations().actions(limit)

    def rollups(self, task_type: str, span: Span = "hour") -> list[Rollup]:
        """What happened to a type in the last 60 minutes or in the last 96 quarters of an hour, oldest
        first. Counts are noted by the daemon, waiting and running times by the workers."""
        return self.all_rollups().read(task_type, span)

    def all_rollups(self) -> Rollups:
        """What reads the rollups of several types, one after the other."""
        return Rollups(self._transport, self._app, self.each(), self._unreadable)

    def policy(self, task_type: str) -> dict[str, str]:
        """What is stored of a type's policy, by the names of the options with their units."""
        return self._part(calls.policy(self._type(task_type, 0)), dict)

    def server(self) -> dict[str, str]:
        """What the server says of itself (INFO): version, memory, persistence, replication, clients."""
        return self._ask(calls.info())

    def now_ms(self) -> int:
        """The server's clock."""
        return self._ask(calls.now())

    def tail(self) -> Tail:
        """What happens to tasks, as it happens: `with inspector.tail() as events`, then iterate. Workers
        tell it only while somebody listens, which a key with a short life tells them."""
        return Tail(self._transport, self._app, self._shards)

    def _operations(self) -> Operations:
        return Operations(self._transport, self._app, self.each(), self._unreadable)

    def _groups(self) -> Groups:
        return Groups(self._transport, self._app, self.shards())

    def all_dead(self, task_type: str) -> Iterator[DeadLetter]:
        """Every dead letter of a type, page by page. One that moves meanwhile may be missed or met twice."""
        start = 0
        while page := self.dead(task_type, start=start):
            yield from page
            start += len(page)

    def workers(self) -> list[WorkerInfo]:
        """The workers that send heartbeats, or did not long ago. A worker beats in the first shard."""
        shard = self._shard(0)
        return _processes(self._unreadable, calls.workers(shard), calls.heartbeats(shard))

    def daemons(self) -> list[WorkerInfo]:
        """The daemons that serve this app, and send heartbeats or did not long ago."""
        found = daemons(self._transport, self._unreadable)
        return [one for one in found if one.details.get("only") in (None, self._app)]

    def daemons_alive(self) -> int:
        """How many daemons serve this app now; 0: delayed tasks, retries and lost deliveries wait."""
        return sum(one.alive for one in self.daemons())

    def audit(self, progress: Callable[[int], None] = lambda _: None) -> Audit:
        """Check every invariant that stored data can tell, in bounded steps, while the queue works.

        `progress` is told how many entries have been checked.
        """
        return Auditor(self._transport, self._app, self.shards(), progress=progress).run()

    def _ask(self, call: calls.Call[calls.R]) -> calls.R:
        return self._transport.run(call)

    def _part(self, call: calls.Call[calls.R], instead: Callable[[], calls.R]) -> calls.R:
        """An answer; what `instead` makes where what is stored cannot be read, which `faults` tells."""
        return self._unreadable.ask(call, instead)

    def _shard(self, shard: int) -> ShardKeys:
        return shard_keys(self._app, shard)

    def _type(self, task_type: str, shard: int) -> TypeKeys:
        return type_keys(self._app, shard, task_type)


def apps(transport: SyncTransport) -> dict[str, AppRecord]:
    """The apps on a server with what it knows of them. Raises ServerError where that cannot be read."""
    return whole(transport, calls.apps(transport.address.namespace), "the record of apps")


def daemons(transport: SyncTransport, look: Unreadable | None = None) -> list[WorkerInfo]:
    """The daemons of a server that send heartbeats, or did not long ago. `details["only"]`: the one app it
    serves, None for all."""
    namespace = transport.address.namespace
    look = look or Unreadable(transport)
    return _processes(look, calls.daemons(namespace), calls.daemon_heartbeats(namespace))


def _processes(
    look: Unreadable, beats: calls.Call[list[tuple[str, int]]], details: calls.Call[dict[str, bytes]]
) -> list[WorkerInfo]:
    listed = look.ask(beats, list)
    # Asked second: who has come meanwhile is in neither list, who has left is in one only.
    told = look.ask(details, lambda: _UNREAD)
    now = look.ask(calls.now(), int) if listed else 0
    # Where nobody can read what they told, all that is known of them is when they last did.
    return [
        worker_info(name, now - beat, told.get(name, b"{}"))
        for name, beat in listed
        if name in told or told is _UNREAD
    ]


def _sum(several: Iterator[dict[str, int]] | Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for counters in several:
        for name, value in counters.items():
            total[name] = total.get(name, 0) + value
    return total


def _task_info(task: TaskId, located: Located, success: Success | None) -> TaskInfo:
    have = codec.fields_dict(located.fields)
    failures = codec.failures(have.get("f", b""))
    failed = success.attempt - 1 if success else failed_attempts(count(have.get("a")), failures)
    ended = {"ended_ms": str(success.at_ms)} if success else {}
    return TaskInfo(
        id=str(task),
        type=task.type,
        state=located.state,
        payload=have.get("p"),
        attempts_failed=failed,
        lost=count(have.get("l")),
        failures=failures,
        detail={**located.detail, **ended},
        result=located.result,
        success=success,
        fields=have,
    )


def worker_info(name: str, age_ms: int, raw: bytes) -> WorkerInfo:
    """A worker by its heartbeat of so many ms ago; damaged details count as none, each by itself."""
    details = mapping(raw)
    details = {name: value for name, value in details.items() if isinstance(value, _TOLD.get(name, object))}
    patience = HEARTBEATS_MISSED * min(max(0.0, real(details.get("heartbeat"), 5.0)), _LONGEST_BEAT)
    return WorkerInfo(name, age_ms <= patience * 1000, max(0, age_ms) / 1000, details)
