"""Questions about a queue; writes nothing, so a read-only user of the server can ask them.

Owns the counting over shards, the description of a task, the list of workers and the audit of the
invariants. Everything is read in bounded steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from streamq import calls, codec
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model import Counts, DeadLetter, Located, State, TaskId
from streamq.transport import SyncTransport

STEP: Final = 100
"""Entries looked at by one script call of the audit."""
HEARTBEATS_MISSED: Final = 3


@dataclass(frozen=True, slots=True)
class TypeStats:
    """One task type over all shards. Ages are seconds; None where there is nothing."""

    type: str
    ready: int
    running: int
    scheduled: int
    dead: int
    suspect: int
    oldest_ready_age: float | None
    next_due_in: float | None
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """Everything that is known of one task. `failures`: the errors of its attempts, oldest first."""

    id: str
    type: str
    state: State
    payload: bytes | None
    attempts_failed: int
    lost: int
    failures: list[dict[str, Any]]
    detail: dict[str, str]
    result: bytes | None
    fields: dict[str, bytes] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process by its last heartbeat. `alive`: it was not longer ago than three heartbeats."""

    name: str
    alive: bool
    last_beat_age: float
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken invariant: its number, the task type and shard, what is wrong and where."""

    invariant: str
    type: str
    shard: int
    problem: str
    where: str = ""


@dataclass
class Audit:
    """The audit's findings and how much it looked at."""

    checked: int = 0
    problems: list[Problem] = field(default_factory=list)


class Inspector:
    """Asks about one app on one server."""

    def __init__(self, transport: SyncTransport, app: str, shards: int) -> None:
        self._transport = transport
        self._app = app
        self._shards = shards

    def types(self) -> list[str]:
        """The task types that were ever registered or enqueued, sorted."""
        return sorted({name for n in range(self._shards) for name in self._ask(calls.types(self._shard(n)))})

    def stats(self) -> list[TypeStats]:
        """Each task type with its states and counters."""
        return [self.type_stats(name) for name in self.types()]

    def type_stats(self, task_type: str) -> TypeStats:
        per_shard = [self.counts(task_type, n) for n in range(self._shards)]
        oldest = [c.now_ms - c.oldest_ready_ms for c in per_shard if c.oldest_ready_ms is not None]
        due = [c.next_due_ms - c.now_ms for c in per_shard if c.next_due_ms is not None]
        return TypeStats(
            type=task_type,
            ready=sum(c.ready for c in per_shard),
            running=sum(c.running for c in per_shard),
            scheduled=sum(c.scheduled for c in per_shard),
            dead=sum(c.dead for c in per_shard),
            suspect=sum(c.suspect for c in per_shard),
            oldest_ready_age=max(0, *oldest, 0) / 1000 if oldest else None,
            next_due_in=min(due) / 1000 if due else None,
            counters=_sum(c.counters for c in per_shard),
        )

    def counts(self, task_type: str, shard: int) -> Counts:
        """One type in one shard at one instant."""
        return self._ask(calls.counts(self._type(task_type, shard)))

    def task(self, task_id: str) -> TaskInfo:
        """Where a task is and what is stored of it. Raises InvalidTaskId."""
        task = TaskId.parse(task_id)
        located = self._ask(calls.locate(self._type(task.type, task.shard), task.local))
        return _task_info(task, located)

    def dead(self, task_type: str, *, start: int = 0, limit: int = 100) -> list[DeadLetter]:
        """A page of a type's dead letters, newest first, shard by shard."""
        page: list[DeadLetter] = []
        for shard in range(self._shards):
            held = self.counts(task_type, shard).dead
            if start < held and len(page) < limit:
                listed = self._ask(calls.dead_page(self._type(task_type, shard), start, limit - len(page)))
                page += listed
            start = max(0, start - held)
        return page

    def all_dead(self, task_type: str) -> Iterator[DeadLetter]:
        """Every dead letter of a type, page by page. One that moves meanwhile may be missed or met twice."""
        start = 0
        while page := self.dead(task_type, start=start):
            yield from page
            start += len(page)

    def workers(self) -> list[WorkerInfo]:
        """The workers that send heartbeats, or did not long ago. A worker beats in the first shard."""
        shard = self._shard(0)
        beats = self._ask(calls.workers(shard))
        # Asked second: who has come meanwhile is in neither list, who has left is in one only.
        details = self._ask(calls.heartbeats(shard))
        now = self._now()
        return [worker_info(name, now - beat, details[name]) for name, beat in beats if name in details]

    def audit(self) -> Audit:
        """Check the invariants I1 to I7 as far as stored data can tell; see Problem.

        On a live queue a task may move between two steps: what is not seen twice is not reported.
        """
        found = Audit()
        for task_type in self.types():
            for shard in range(self._shards):
                first = self._audit_type(task_type, shard, found)
                if first:
                    found.problems += [p for p in self._audit_type(task_type, shard, found) if p in first]
        return found

    def _audit_type(self, task_type: str, shard: int, found: Audit) -> list[Problem]:
        keys = self._type(task_type, shard)
        problems: list[Problem] = []

        def note(invariant: str, listed: calls.Problems) -> None:
            problems.extend(Problem(invariant, task_type, shard, text, where) for text, where in listed)

        counts = self._ask(calls.counts(keys))
        if counts.imbalance:
            note("I5", [("the counters do not add up", f"{counts.imbalance:+d} tasks")])
        for letter, _ in calls.all_streams(keys):
            for checked, listed in self._stream_steps(keys, letter):
                found.checked += checked
                for problem in listed:
                    note("I6" if problem[0] == "delivered to nobody" else "I1", [problem])
        for checked, listed in self._list_steps(keys):
            found.checked += checked
            note("I1", listed)
        sizes = self._ask(calls.sizes(keys))
        if sizes.dead != sizes.letters:
            note("I7", [("dead letters and their list differ", f"{sizes.letters} and {sizes.dead}")])
        return problems

    def _stream_steps(self, keys: TypeKeys, letter: str) -> Iterator[tuple[int, calls.Problems]]:
        cursor = "-"
        while cursor:
            cursor, checked, _, listed = self._ask(calls.audit_stream(keys, letter, cursor, STEP))
            yield checked, listed
        cursor = "-"
        while cursor:
            cursor, checked, listed = self._ask(calls.audit_pending(keys, letter, cursor, STEP))
            yield checked, listed

    def _list_steps(self, keys: TypeKeys) -> Iterator[tuple[int, calls.Problems]]:
        start = 0
        while True:
            checked, _, listed = self._ask(calls.audit_schedule(keys, start, STEP))
            yield checked, listed
            start += checked
            if checked < STEP:
                break
        start = 0
        while True:
            checked, listed = self._ask(calls.audit_dead(keys, start, STEP))
            yield checked, listed
            start += checked
            if checked < STEP:
                return

    def _ask(self, call: calls.Call[calls.R]) -> calls.R:
        return self._transport.run(call)

    def _now(self) -> int:
        return self._ask(calls.now())

    def _shard(self, shard: int) -> ShardKeys:
        return shard_keys(self._app, shard)

    def _type(self, task_type: str, shard: int) -> TypeKeys:
        return type_keys(self._app, shard, task_type)


def apps(transport: SyncTransport) -> dict[str, int]:
    """The apps on a server with their numbers of shards."""
    return {name: shards_of(details) for name, details in transport.run(calls.apps()).items()}


def shards_of(details: bytes) -> int:
    """The number of shards an app announced; 1 where that is damaged."""
    try:
        shards = orjson.loads(details)["shards"]
    except (ValueError, TypeError, KeyError):
        return 1
    return shards if isinstance(shards, int) and 1 <= shards <= 9999 else 1


def _sum(several: Iterator[dict[str, int]] | Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for counters in several:
        for name, value in counters.items():
            total[name] = total.get(name, 0) + value
    return total


def _task_info(task: TaskId, located: Located) -> TaskInfo:
    have = codec.fields_dict(located.fields)
    return TaskInfo(
        id=str(task),
        type=task.type,
        state=located.state,
        payload=have.get("p"),
        attempts_failed=_number(have.get("a")),
        lost=_number(have.get("l")),
        failures=codec.failures(have.get("f", b"")),
        detail=located.detail,
        result=located.result,
        fields=have,
    )


def _number(raw: bytes | None) -> int:
    return int(raw) if raw is not None and raw.isdigit() else 0


def worker_info(name: str, age_ms: int, raw: bytes) -> WorkerInfo:
    """A worker by its heartbeat of so many ms ago; damaged details count as none."""
    try:
        details = orjson.loads(raw)
    except ValueError:
        details = {}
    if not isinstance(details, dict):
        details = {}
    interval = details.get("heartbeat", 5.0)
    patience = HEARTBEATS_MISSED * (interval if isinstance(interval, int | float) else 5.0)
    return WorkerInfo(name, age_ms <= patience * 1000, max(0, age_ms) / 1000, details)
