"""The overview as plain JSON objects: what is wrong, the totals, the task types, the charts.

Owns the shapes of the overview, and the order and choice of its rows. Reads through the inspector only. Must
not know HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any, Final

from streamq.control.action_log import Pause
from streamq.control.inspector import Inspector
from streamq.control.overview import TypeStats, TypeSummary, totals
from streamq.control.partial_outage import PartialView, unless_unreachable
from streamq.control.rollups import Rollup, Span, activity
from streamq.dashboard.attention import Seen, concerns, served_types
from streamq.dashboard.history import ALL, History, Point, together
from streamq.doctor.check import Check
from streamq.errors import UnknownTaskType, UsageError
from streamq.heartbeat import WorkerInfo

SERIES: Final = ("accepted", "completed", "failed", "backlog", "wait_p95", "run_p95")
Row = dict[str, Any]

SORTS: Final[dict[str, Callable[[Row], Any]]] = {
    "name": itemgetter("type"),
    **{name: itemgetter(name) for name in ("ready", "running", "scheduled", "parked", "dead")},
    "oldest": lambda row: row["oldest_ready_age"] or 0.0,
    "in": lambda row: row["rate_in"] or 0.0,
    "out": lambda row: row["rate_out"] or 0.0,
    "wait": lambda row: row["wait"]["p95"] or 0.0,
    "run": lambda row: row["run"]["p95"] or 0.0,
    "success": lambda row: 1.0 if row["success"] is None else row["success"],
}
"""What the rows can be sorted by: with a minus before it, the greatest first."""
SHOWS: Final[dict[str, Callable[[Row], bool]]] = {
    "waiting": lambda row: bool(row["ready"] or row["parked"]),
    "dead": lambda row: bool(row["dead"]),
    "paused": lambda row: bool(row["paused"]),
    "unserved": lambda row: row["served"] is False and bool(row["ready"] or row["parked"]),
}
"""Which rows can be chosen."""


def overview(partial: PartialView, history: History, findings: Sequence[Check] = ()) -> dict[str, Any]:
    """Return what is wrong, every task type, and the totals; if a master of a cluster is unreachable, of the
    other shards."""
    found, missing = partial.look(
        lambda inspector: _overview(inspector, _cache_for(inspector, history), findings)
    )
    return {**found, "missing_shards": list(missing)}


def _cache_for(inspector: Inspector, history: History) -> History:
    """Return the history to use: the view of a part must not be cached as if it were the whole."""
    return History() if inspector.partial else history


def _overview(inspector: Inspector, history: History, findings: Sequence[Check]) -> dict[str, object]:
    paused, reader = inspector.paused(), history.reader(inspector)
    workers, daemons = unless_unreachable(inspector.workers), unless_unreachable(inspector.daemons_alive)
    types, more = inspector.glance()
    stats = inspector.stats(types)
    summaries, rows, recents = list[TypeSummary](), list[Row](), list[list[Rollup]]()
    for one in stats:
        recent, points = reader.hour(one.type)
        recents.append(recent)
        summaries.append(summary(one, recent, paused))
        rows.append({**type_row(summaries[-1], points), "served": _served(one.type, workers)})
    lately = [together(parts) for parts in zip(*recents, strict=True)]
    still = inspector.standstill(stats)
    wrong = concerns(Seen(inspector.app, stats, paused, workers, daemons, findings, still.lanes))
    return {
        "attention": [asdict(one) for one in wrong],
        "types": rows,
        "more_types": more,
        "daemons": daemons,
        "standstill": asdict(still),
        "faults": inspector.faults,
        "totals": {**asdict(totals(summaries)), **asdict(activity(lately))},
    }


def one_type(inspector: Inspector, history: History, name: str) -> Row:
    """Return one task type as the overview has it."""
    recent, points = history.reader(inspector).hour(name)
    row = type_row(summary(inspector.type_stats(name), recent, inspector.paused()), points)
    return {**row, "served": _served(name, unless_unreachable(inspector.workers))}


def _served(name: str, workers: Sequence[WorkerInfo] | None) -> bool | None:
    """Return whether a living worker serves a type; None if that is unknown."""
    return None if workers is None else name in served_types(workers)


def type_row(summary: TypeSummary, points: list[Point]) -> Row:
    """Return a task type for the overview."""
    return {**summary.as_object(), "per_minute": [point.done for point in over(points)]}


def summary(one: TypeStats, recent: list[Rollup], paused: Mapping[str, Pause]) -> TypeSummary:
    return TypeSummary(one, activity(recent), paused.get(one.type))


def over(points: Sequence[Point]) -> list[Point]:
    """Return the slices that are over: one that is not looks like a fall. It stays if it is all there is."""
    first = all(point.accepted is None for point in points[:-1])
    return list(points if first else points[:-1])


def arranged(rows: Sequence[Row], find: str, show: str, sort: str) -> list[Row]:
    """Return the rows whose name contains `find`, and that are of this kind, sorted. Raises UsageError."""
    if show and show not in SHOWS:
        raise UsageError(f"Unknown choice show={show[:40]!r}: use {', '.join(SHOWS)}.")
    name = sort.removeprefix("-") or "name"
    if name not in SORTS:
        known = ", ".join(SORTS)
        raise UsageError(f"Unknown order sort={sort[:40]!r}: use {known}, with - for the greatest first.")
    chosen = [
        row for row in rows if find.lower() in str(row["type"]).lower() and (not show or SHOWS[show](row))
    ]
    return sorted(chosen, key=SORTS[name], reverse=sort.startswith("-"))


def chart(partial: PartialView, history: History, task_type: str | None, span: str) -> dict[str, object]:
    """Return the series of a chart, for one type or for all together. Times are in seconds since the epoch,
    rates in tasks a second, durations in seconds."""

    def look(inspector: Inspector) -> dict[str, object]:
        if task_type is not None and task_type not in inspector.types():
            raise UnknownTaskType(f"Unknown task type {task_type!r}.")
        return _chart(inspector, _cache_for(inspector, history), task_type, span)

    return partial.look(look)[0]


def _chart(inspector: Inspector, history: History, task_type: str | None, span: str) -> dict[str, object]:
    of: Span = "day" if span == "day" else "hour"
    types = [task_type] if task_type else inspector.glance()[0]
    points = over(history.reader(inspector).points(types, of, task_type or ALL))
    series = {name: [getattr(point, name) for point in points] for name in SERIES}
    return {"span": of, "times": [point.start_ms // 1000 for point in points], **series}
