"""The overview of a queue: ready, running, scheduled and dead tasks, and its workers.

Owns the sums over shards, which task types an overview reads, and the overview as rows and as metrics: the
inspector, the daemon, the dashboard and the command line show the same numbers. Must not write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from streamq.calls import question as question_calls
from streamq.control.action_log import Pause
from streamq.control.rollups import Activity, added
from streamq.control.unreadable import Unreadable
from streamq.errors import RedisError
from streamq.flow import Flow, ask, in_turn
from streamq.heartbeat import WorkerInfo
from streamq.keys import type_keys
from streamq.model.counts import COUNTERS, Counts
from streamq.stored import count
from streamq.telemetry.counters import Snapshot

GLANCE: Final = 1000
"""Task types times shards that an overview reads: its cost is bounded, however many types there are."""
LEAST_SHOWN: Final = 20
SCRAPED: Final = 2000
"""Task types times shards that a scrape reads; it must end in time."""
KEPT: Final = 2.0
"""Seconds for which a scrape's view is reused: scrapers and autoscalers ask at the same time."""
STATES: Final = ("ready", "running", "scheduled", "parked", "dead")
_NOTHING: Final = dict.fromkeys(COUNTERS, 0)
_NO_COUNTS: Final = Counts(0, 0, 0, 0, 0, 0, None, None)

Row = dict[str, Any]
"""A type as JSON, for pages, commands and scrapes."""


@dataclass(frozen=True, slots=True)
class TypeStats:
    """One task type over all shards. Ages are in seconds; None if there is no such task.

    `ready`, `running`, `scheduled`, `parked`, `dead`: how many tasks are in these states now; `suspect`: how
    many of those ready or running ran when their worker died. `counters`: what has happened since the type
    was first used, by name; each is there, 0 if it never happened (`streamq.COUNTERS` says what each counts).

    `fault`: which key of the type cannot be read; '' if all can. Its shard is then not counted.
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
    parked: int = 0

    @property
    def unaccounted(self) -> int:
        """Accepted tasks minus those in all other counters, as `Counts.imbalance`."""
        states = (self.ready, self.running, self.scheduled, self.dead, self.suspect)
        return Counts(0, *states, None, None, self.counters, self.parked).imbalance


def stats_of(task_type: str, per_shard: Sequence[Counts], fault: str = "") -> TypeStats:
    """Return the sums of a type over its shards."""
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
        counters=_NOTHING | added(c.counters for c in per_shard),
        fault=fault,
        parked=sum(c.parked for c in per_shard),
    )


def type_stats(app: str, task_type: str, shards: Iterable[int], unreadable: Unreadable) -> Flow[TypeStats]:
    """Read one type in each of these shards. Faults of stored data are in `fault`, and noted in
    `unreadable`."""
    own, keys = Unreadable(), [type_keys(app, shard, task_type) for shard in shards]
    per_shard = yield from in_turn(own.ask(question_calls.counts(one), lambda: _NO_COUNTS) for one in keys)
    unreadable.note(*own.faults)
    return stats_of(task_type, per_shard, "; ".join(own.faults))


def glance(types: Sequence[str], served: Iterable[str], shards: int, most: int) -> tuple[list[str], int]:
    """Return the types that an overview reads, and how many it leaves out. Types that a living worker serves
    come first."""
    first, most = set(served), max(LEAST_SHOWN, most // max(1, shards))
    chosen = sorted(types, key=lambda name: (name not in first, name))[:most]
    return sorted(chosen), len(types) - len(chosen)


# -- for pages and commands --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TypeSummary:
    """A task type with what happened to it lately, and its pause."""

    stats: TypeStats
    recent: Activity
    pause: Pause | None

    def as_object(self) -> dict[str, object]:
        """Return the summary as JSON and pages have it: one flat object."""
        pause = None if self.pause is None else asdict(self.pause)
        return {**asdict(self.stats), **asdict(self.recent), "paused": pause}


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all types, and the age of the oldest ready task of any."""

    ready: int
    running: int
    scheduled: int
    parked: int
    dead: int
    rate_in: float | None
    rate_out: float | None
    oldest_ready_age: float | None


def totals(types: Sequence[TypeSummary]) -> Totals:
    """Return the sums over these types."""
    stats = [one.stats for one in types]
    ages = [one.oldest_ready_age for one in stats if one.oldest_ready_age is not None]
    return Totals(
        ready=sum(one.ready for one in stats),
        running=sum(one.running for one in stats),
        scheduled=sum(one.scheduled for one in stats),
        parked=sum(one.parked for one in stats),
        dead=sum(one.dead for one in stats),
        rate_in=_sum(one.recent.rate_in for one in types),
        rate_out=_sum(one.recent.rate_out for one in types),
        oldest_ready_age=max(ages, default=None),
    )


def _sum(rates: Iterable[float | None]) -> float | None:
    """Return the sum of those that are known; None if none is."""
    known = [one for one in rates if one is not None]
    return sum(known) if known else None


# -- for scrapes -------------------------------------------------------------------------------------------


@dataclass
class View:
    """What a scrape read. rows: one for each type, over its shards; None if the server did not reply.
    workers: by app, how many are in each state, and their slots. memory: used and maximum, in bytes.
    more_types: how many types were not read."""

    rows: list[Row] | None = None
    workers: dict[str, Counter[str]] = field(default_factory=dict)
    memory: tuple[int, int] | None = None
    more_types: int = 0


def scraped(app: str, one: TypeStats, *, paused: bool) -> Row:
    """Return a type as a row for scrapers and autoscalers."""
    overdue = 0.0 if one.next_due_in is None else max(0.0, -one.next_due_in)
    return {
        "app": app, "type": one.type, **{name: getattr(one, name) for name in STATES}, "suspect": one.suspect,
        "oldest_ready_seconds": one.oldest_ready_age or 0.0, "overdue_seconds": overdue,
        "unaccounted": one.unaccounted, "paused": paused,
        "counters": {name: one.counters[name] for name in COUNTERS},
    }  # fmt: skip


def tally(workers: Iterable[WorkerInfo]) -> Counter[str]:
    """Return how many workers are in each state, and the slots of those that accept tasks."""
    found = Counter(alive=0, draining=0, silent=0, slots=0)
    for one in workers:
        draining, slots = bool(one.details.get("draining")), one.details.get("concurrency")
        found["silent" if not one.alive else "draining" if draining else "alive"] += 1
        if one.alive and not draining and isinstance(slots, int):
            found["slots"] += slots
    return found


def memory(keys: Iterable[str]) -> Flow[tuple[int, int] | None]:
    """Return the memory of the fullest of the servers with these keys; None if one does not reply it, such as
    to a user without INFO."""
    try:
        infos = yield from in_turn(ask(question_calls.info(key, "memory")) for key in keys)
    except RedisError:
        return None
    return max(map(_memory, infos), key=lambda one: one[0] / (one[1] or float("inf")), default=None)


def _memory(info: Mapping[str, str]) -> tuple[int, int]:
    return count(info.get("used_memory")), count(info.get("maxmemory"))


def samples(view: View) -> Snapshot:
    """Return the view as metrics."""
    found = Snapshot()
    found.set("streamq_redis_up", value=int(view.rows is not None))
    if view.rows is not None:
        found.set("streamq_queue_more_types", value=view.more_types)
    for row in view.rows or ():
        _samples(found, row)
    for app, workers in view.workers.items():
        for state in ("alive", "draining", "silent"):
            found.set("streamq_workers", app, state, value=workers[state])
        found.set("streamq_workers_slots", app, value=workers["slots"])
    if view.memory is not None:
        found.set("streamq_redis_memory_used_bytes", value=view.memory[0])
        found.set("streamq_redis_memory_max_bytes", value=view.memory[1])
    return found


def _samples(found: Snapshot, row: Row) -> None:
    labels = (row["app"], row["type"])
    for state in (*STATES, "suspect"):
        found.set("streamq_queue_tasks", *labels, state, value=row[state])
    found.set("streamq_queue_oldest_seconds", *labels, "ready", value=row["oldest_ready_seconds"])
    found.set("streamq_queue_oldest_seconds", *labels, "scheduled", value=row["overdue_seconds"])
    found.set("streamq_queue_paused", *labels, value=int(row["paused"]))
    if "desired" in row:  # a daemon's view
        found.set("streamq_queue_workers_desired", *labels, value=row["desired"])
    found.set("streamq_queue_unaccounted", *labels, value=row["unaccounted"])
    for event in COUNTERS:
        found.set(f"streamq_tasks_{event}_total", *labels, value=row["counters"][event])
