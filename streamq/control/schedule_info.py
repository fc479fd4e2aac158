"""A schedule as people and programs are shown it: its rules, its next runs, its last run and what became of
that.

Owns the view. Where a row cannot be read the view says so, and keeps no other from being shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Final, Literal

from streamq.calls.locate import locate
from streamq.control.schedule_rows import Found
from streamq.control.unreadable import Unreadable
from streamq.errors import DecodeError, UsageError
from streamq.flow import Flow
from streamq.keys import type_keys
from streamq.model.reply import Located
from streamq.model.task import LOCAL_PATTERN, State, TaskId
from streamq.options.schedule import Cron, Misfire, Overlap
from streamq.schedules import arithmetic, definition
from streamq.schedules.definition import Definition
from streamq.schedules.state import Origin
from streamq.schedules.state import State as ScheduleState

UPCOMING: Final = 5
LATE_MS: Final = 5000
"""Ms by which a run may be late: a daemon that keeps up is late by milliseconds."""
Standing = Literal["active", "paused", "ended", "orphan", "damaged"]


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """A schedule at one moment. Times are ms since the epoch, durations seconds.

    standing: `ended` where no run follows, `orphan` where no live worker's code declares it any more,
    `damaged` where `fault` says what cannot be read. when: the cron expression, or `every 10 min`; tz: its
    zone. origin: declared in `code`, or put by a `call`. upcoming: the next five runs. last_for_ms: the time
    of the last run; last_made_ms: when it was made; last_late: by how much later than due; last_task: its id;
    last_state: what became of it. skipped: times without a run, by reason: misfire, overlap, backlog,
    rate_limit, past, unique. waiting_ms: the time of a run that waits for the end of the one before.
    """

    name: str
    standing: Standing
    type: str = ""
    when: str = ""
    tz: str = "UTC"
    misfire: Misfire = "last"
    overlap: Overlap = "skip"
    jitter: float = 0.0
    grace: float = 0.0
    start_ms: int | None = None
    end_ms: int | None = None
    left: int | None = None
    origin: Origin = "call"
    shard: int = 0
    next_ms: int | None = None
    upcoming: tuple[int, ...] = ()
    last_for_ms: int | None = None
    last_made_ms: int | None = None
    last_late: float | None = None
    last_task: str = ""
    last_state: State | None = None
    runs: int = 0
    skipped: dict[str, int] | None = None
    waiting_ms: int | None = None
    paused_by: str = ""
    paused_reason: str = ""
    paused_ms: int | None = None
    fault: str = ""


def info_of(found: Found, look: Unreadable | None = None, *, outcome: bool) -> Flow[ScheduleInfo]:
    """Return the view of a row. outcome: look what became of its last run."""
    now, known, fault = found.state, None, ""
    try:
        known = definition.read(found.row.definition)
    except (DecodeError, UsageError) as error:
        fault = str(error)
    if now is None:
        fault = fault or "how it stands cannot be read"
    if now is None or known is None:
        return ScheduleInfo(found.name, "damaged", shard=found.keys.shard, fault=fault)
    last = (yield from _last(found, now, look)) if outcome else None
    return _shown(found, known, now, last)


def _last(found: Found, now: ScheduleState, look: Unreadable | None) -> Flow[State | None]:
    if not LOCAL_PATTERN.fullmatch(now.run) or not now.run_type:
        return None
    call = locate(type_keys(found.keys.app, found.keys.shard, now.run_type), now.run)
    nothing = Located("unknown", 0)
    return (yield from (look or Unreadable()).ask(call, lambda: nothing)).state


def _shown(found: Found, known: Definition, now: ScheduleState, last: State | None) -> ScheduleInfo:
    schedule, paused = known.schedule, now.paused
    cron = schedule.when if isinstance(schedule.when, Cron) else None
    ran = bool(now.run)
    return ScheduleInfo(
        name=found.name,
        standing=_standing(now),
        type=known.type,
        when=cron.expression if cron else str(schedule.when),
        tz=cron.tz if cron else "UTC",
        misfire=schedule.misfire,
        overlap=schedule.overlap,
        jitter=schedule.jitter,
        grace=schedule.grace,
        start_ms=schedule.start_ms,
        end_ms=schedule.end_ms,
        left=now.left,
        origin=now.origin,
        shard=found.keys.shard,
        next_ms=None if paused else now.next,
        upcoming=_upcoming(known, now),
        last_for_ms=now.ran if ran else None,
        last_made_ms=now.at if ran else None,
        last_late=now.late / 1000 if ran else None,
        last_task=str(TaskId(now.run_type, found.keys.shard, now.run)) if ran else "",
        last_state=last,
        runs=now.runs,
        skipped=now.skipped,
        waiting_ms=now.waiting,
        paused_by=paused.by if paused else "",
        paused_reason=paused.reason if paused else "",
        paused_ms=paused.since_ms if paused else None,
    )


def _standing(now: ScheduleState) -> Standing:
    if now.paused is not None:
        return "paused"
    if now.next is None:
        return "ended"
    return "active" if now.orphan is None else "orphan"


def _upcoming(known: Definition, now: ScheduleState) -> tuple[int, ...]:
    if now.next is None or now.paused is not None:
        return ()
    number = UPCOMING if now.left is None else min(UPCOMING, now.left)
    following = arithmetic.times(known.schedule, now.anchor, now.next)
    return (now.next, *islice(following, number - 1))[:number]
