"""The lanes of a task type, for people and programs: what waits in which, why, and what operators changed.

Owns their description and the walk over pages and shards. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from streamq.calls import lanes as lane_calls
from streamq.calls import question as question_calls
from streamq.calls.lanes import NO_LANE as STORED
from streamq.control.unreadable import Unreadable
from streamq.flow import Flow, ask
from streamq.keys import type_keys
from streamq.model.task import TaskId

PAGE: Final = 100
MOST: Final = 2000
"""Lanes that a look walks over at most: there may be millions."""


@dataclass(frozen=True, slots=True)
class LaneInfo:
    """A lane: '' is that of tasks which name none.

    parked: tasks that wait in it; held: its tasks that are ready or running; running: the most these may be,
    None without a limit. why: what the first of it waits for: limit, rate, turn or order. oldest_seconds:
    how long the oldest of its first tasks has waited. share: its part of the type's weights, of those that
    wait. limits: what an operator set, '' for nothing. halted: the id of the dead letter that shuts it.
    held_seconds: for how long a handler's RateLimited holds it back.
    """

    lane: str
    shard: int
    parked: int
    held: int
    running: int | None
    why: str
    oldest_seconds: float | None
    share: float
    weight: float
    limits: str
    halted: str
    held_seconds: float


def read(
    app: str,
    task_type: str,
    shards: Sequence[int],
    look: Unreadable,
    *,
    most: int = MOST,
    only: str | None = None,
) -> Flow[list[LaneInfo]]:
    """Return the lanes with parked tasks, or the one lane `only`: those that have waited longest first."""
    found: list[LaneInfo] = []
    for shard in shards:
        keys = type_keys(app, shard, task_type)
        now = yield from ask(question_calls.now(keys.policy))
        rules = yield from look.ask(lane_calls.rules(keys), dict)
        rows: list[lane_calls.LaneRow] = []
        after = ""
        while len(rows) < most:
            page = lane_calls.listed(keys, after, PAGE, stored(only) if only is not None else "")
            after, more = yield from look.ask(page, lambda: ("", []))
            rows += more
            if not after:
                break
        found += [_info(task_type, shard, row, rules, rows, now) for row in rows]
    return sorted(found, key=lambda one: (-(one.oldest_seconds or 0.0), one.lane))


def stored(lane: str) -> str:
    """A lane's name as the scripts have it."""
    return lane or STORED


def _info(
    task_type: str,
    shard: int,
    row: lane_calls.LaneRow,
    rules: dict[str, str],
    rows: Sequence[lane_calls.LaneRow],
    now_ms: int,
) -> LaneInfo:
    whole = sum(one.weight for one in rows if one.parked) or 1.0
    return LaneInfo(
        lane="" if row.lane == STORED else row.lane,
        shard=shard,
        parked=row.parked,
        held=row.held,
        running=row.running,
        why=row.why,
        oldest_seconds=_age(row.first, now_ms),
        share=row.weight / whole if row.parked else 0.0,
        weight=row.weight,
        limits=rules.get(row.lane, ""),
        halted=str(TaskId(task_type, shard, row.halted)) if row.halted else "",
        held_seconds=max(0.0, (row.held_until_ms - now_ms) / 1000),
    )


def _age(local: str, now_ms: int) -> float | None:
    """How long a task has waited, by the time in its id."""
    stamp = local[1:].partition("-")[0]
    return max(0.0, (now_ms - int(stamp)) / 1000) if stamp.isascii() and stamp.isdigit() else None
