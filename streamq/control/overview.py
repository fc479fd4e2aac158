"""The queue at a glance: what is ready, running, scheduled and dead, and who works on it.

Owns the sums over shards, which task types an overview looks at, and the overview as rows and as metrics: the
inspector, the daemon, the dashboard and the command line show the same numbers. Writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from streamq.calls import question as question_calls
from streamq.control.action_log import Pause
from streamq.control.heartbeats import WorkerInfo
from streamq.control.rollups import Activity, added
from streamq.control.unreadable import Unreadable
from streamq.errors import RedisError
from streamq.flow import Flow, ask, in_turn
from streamq.keys import type_keys
from streamq.model.reply import COUNTERS, Counts
from streamq.stored import count
from streamq.telemetry.counters import Snapshot

GLANCE: Final = 1000
"""Task types times shards that an overview asks about: its cost has a bound, however many types there are."""
LEAST_SHOWN: Final = 20
SCRAPED: Final = 2000
"""As many that a scrape looks at; it must end."""
KEPT: Final = 2.0
"""Seconds for which a scrape's view is given again: scrapers and scalers come in pairs."""
STATES: Final = ("ready", "running", "scheduled", "parked", "dead")
_NOTHING: Final = dict.fromkeys(COUNTERS, 0)
_NO_COUNTS: Final = Counts(0, 0, 0, 0, 0, 0, None, None)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TypeStats:
    """One task type over all shards. Ages are seconds; None where there is nothing.

    `ready`, `running`, `scheduled`, `parked`, `dead`: how many tasks are in these states now; `suspect`: how
    many of those ready or running ran when their worker died. `counters`: what has happened since the type
    was first used, by name; each is there, 0 where it never happened (`streamq.COUNTERS` has the names):

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
    parked: int = 0

    @property
    def unaccounted(self) -> int:
        """Accepted tasks minus those accounted for, as `Counts.imbalance`."""
        states = (self.ready, self.running, self.scheduled, self.dead, self.suspect)
        return Counts(0, *states, None, None, self.counters, self.parked).imbalance


def stats_of(task_type: str, per_shard: Sequence[Counts], fault: str = "") -> TypeStats:
    """Return the sum of what there is of a type in each shard."""
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


def type_stats(app: str, task_type: str, shards: Iterable[int], look: Unreadable) -> Flow[TypeStats]:
    """Ask for one type in each of these shards. What cannot be read is in `fault`, and noted by `look`."""
    own, keys = Unreadable(), [type_keys(app, shard, task_type) for shard in shards]
    per_shard = yield from in_turn(own.ask(question_calls.counts(one), lambda: _NO_COUNTS) for one in keys)
    look.note(*own.told)
    return stats_of(task_type, per_shard, "; ".join(own.told))


def glance(types: Sequence[str], served: Iterable[str], shards: int, most: int) -> tuple[list[str], int]:
    """Return the types that an overview looks at, and how many it leaves out. Those that a living worker
    serves come first."""
    first, most = set(served), max(LEAST_SHOWN, most // max(1, shards))
    chosen = sorted(types, key=lambda name: (name not in first, name))[:most]
    return sorted(chosen), len(types) - len(chosen)


# -- as a page, or a command, shows it ---------------------------------------------------------------------


def shown(one: TypeStats, recent: Activity, pause: Pause | None) -> Row:
    """Return a type with what has happened to it lately."""
    return {**asdict(one), **asdict(recent), "paused": None if pause is None else asdict(pause)}


def totals(rows: Sequence[Row], names: Sequence[str] = STATES) -> Row:
    """Return the sums over all types, and the age of the oldest ready task of any."""
    ages = [row["oldest_ready_age"] for row in rows if row["oldest_ready_age"] is not None]
    return {name: sum(row[name] for row in rows) for name in names} | {
        "oldest_ready_age": max(ages, default=None)
    }


# -- as a scrape shows it ----------------------------------------------------------------------------------


@dataclass
class View:
    """What was seen. `rows`: one a type, over its shards; None where the server did not answer. `workers`: by
    app, how many are in each state, and their slots. `memory`: used and at most, in bytes. `more_types`: how
    many were not looked at."""

    rows: list[Row] | None = None
    workers: dict[str, Counter[str]] = field(default_factory=dict)
    memory: tuple[int, int] | None = None
    more_types: int = 0


def scraped(app: str, one: TypeStats, *, paused: bool) -> Row:
    """Return a type as scrapers and scalers are told of it."""
    overdue = 0.0 if one.next_due_in is None else max(0.0, -one.next_due_in)
    return {
        "app": app, "type": one.type, **{name: getattr(one, name) for name in STATES}, "suspect": one.suspect,
        "oldest_ready_seconds": one.oldest_ready_age or 0.0, "overdue_seconds": overdue,
        "unaccounted": one.unaccounted, "paused": paused,
        "counters": {name: one.counters[name] for name in COUNTERS},
    }  # fmt: skip


def tally(workers: Iterable[WorkerInfo]) -> Counter[str]:
    """Return how many workers are in each state, and the slots of those that take tasks."""
    found = Counter(alive=0, draining=0, silent=0, slots=0)
    for one in workers:
        draining, slots = bool(one.details.get("draining")), one.details.get("concurrency")
        found["silent" if not one.alive else "draining" if draining else "alive"] += 1
        if one.alive and not draining and isinstance(slots, int):
            found["slots"] += slots
    return found


def memory(keys: Iterable[str]) -> Flow[tuple[int, int] | None]:
    """Return the memory of the fullest of the servers that hold these keys; None if one does not tell it, as
    to a user without INFO."""
    try:
        told = yield from in_turn(ask(question_calls.info(key, "memory")) for key in keys)
    except RedisError:
        return None
    return max(map(_memory, told), key=lambda one: one[0] / (one[1] or float("inf")), default=None)


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
    found.set("streamq_queue_unaccounted", *labels, value=row["unaccounted"])
    for event in COUNTERS:
        found.set(f"streamq_tasks_{event}_total", *labels, value=row["counters"][event])
