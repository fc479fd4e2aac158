"""What the pages and the JSON API show, as plain objects of JSON. Reads through the inspector only.

Owns the shapes of the API. Nothing here knows HTTP.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

from streamq.control.action_log import Pause
from streamq.control.dead_letters import END_MS, DeadGroup, DeadGroups, DeadSelection
from streamq.control.heartbeats import WorkerInfo
from streamq.control.inspector import Inspector
from streamq.control.lanes import LaneInfo
from streamq.control.overview import TypeStats, shown, totals
from streamq.control.partial_outage import PartialView, unless_away
from streamq.control.rollups import Rollup, Span, activity
from streamq.control.task_info import TaskInfo
from streamq.control.task_list import TaskFilter, TaskPage, TaskRow, told
from streamq.dashboard.findings import Findings
from streamq.dashboard.history import ALL, History, Point, together
from streamq.dashboard.redaction import HIDDEN, Redaction
from streamq.errors import AuthenticationFailed, UnknownTaskType
from streamq.stored import moment

SERIES: Final = ("accepted", "completed", "failed", "backlog", "wait_p95", "run_p95")
YOUNG: Final = 20
"""Seconds of a slice of time that say nothing yet: the daemon notes what was counted every ten."""


def type_row(
    one: TypeStats, recent: list[Rollup], points: list[Point], pause: Pause | None
) -> dict[str, object]:
    """A task type on the overview."""
    # Not of the minute that is under way, which would look like a fall.
    return {**shown(one, activity(recent), pause), "per_minute": [point.done for point in points[:-1]]}


def overview(partial: PartialView, history: History) -> dict[str, Any]:
    """Every task type, and all together; where a master of a cluster is away, of the shards that answer."""
    found, missing = partial.look(lambda inspector: _overview(inspector, _remembering(inspector, history)))
    return {**found, "missing_shards": list(missing)}


def _remembering(inspector: Inspector, history: History) -> History:
    """What is seen of a part must not be remembered as if it were all."""
    return History() if inspector.partial else history


def _overview(inspector: Inspector, history: History) -> dict[str, object]:
    paused, rows, recents = inspector.paused(), list[dict[str, Any]](), list[list[Rollup]]()
    look = history.look(inspector)
    types, more = inspector.glance()
    for one in inspector.stats(types):
        recent, points = look.hour(one.type)
        recents.append(recent)
        rows.append(type_row(one, recent, points, paused.get(one.type)))
    lately = [together(parts) for parts in zip(*recents, strict=True)]
    return {
        "types": rows,
        "more_types": more,
        "daemons": unless_away(inspector.daemons_alive),
        "faults": inspector.faults,
        "totals": {**totals(rows), **asdict(activity(lately))},
    }


def chart(partial: PartialView, history: History, task_type: str | None, span: str) -> dict[str, object]:
    """Series for a chart: of one type, or of all together. Times in seconds since the epoch, rates in
    tasks a second, durations in seconds."""

    def look(inspector: Inspector) -> dict[str, object]:
        if task_type is not None and task_type not in inspector.types():
            raise UnknownTaskType(f"There is no task type {task_type!r}.")
        return _chart(inspector, _remembering(inspector, history), task_type, span)

    return partial.look(look)[0]


def _chart(inspector: Inspector, history: History, task_type: str | None, span: str) -> dict[str, object]:
    of: Span = "day" if span == "day" else "hour"
    types = [task_type] if task_type else inspector.glance()[0]
    points = history.look(inspector).points(types, of, task_type or ALL)
    if points and points[-1].seconds < YOUNG:
        points.pop()
    series = {name: [getattr(point, name) for point in points] for name in SERIES}
    return {"span": of, "times": [point.start_ms // 1000 for point in points], **series}


def task(info: TaskInfo, redaction: Redaction) -> dict[str, object]:
    """A task with all that is known of it."""
    result = (info.result or b"null") if info.result is not None else None
    failures = [redaction.failure(one, info.payload) for one in info.failures]
    return {
        "id": info.id, "type": info.type, "state": info.state, "payload": redaction.value(info.payload),
        "attempts_failed": info.attempts_failed, "lost": info.lost, "failures": failures,
        "detail": detail(info.detail, redaction), "result": redaction.result(result, info.payload),
        "success": info.success._asdict() if info.success else None, "origin": origin(info),
    }  # fmt: skip


def origin(info: TaskInfo) -> str | None:
    """The dead letter that this task was made from."""
    raw = info.fields.get("o")
    head = info.id.rpartition(":")[0]
    return f"{head}:{raw.decode('utf-8', 'replace')}" if raw else None


def task_row(row: TaskRow, redaction: Redaction) -> dict[str, object]:
    """A task in a list. `payload` is text, cut."""
    fields = asdict(row)
    del fields["fields"]
    return {
        **fields, "payload": redaction.short(row.payload, 600),
        "result": redaction.short_result(row.result, row.whole_payload, 600),
        "last_error": last_error(row, redaction),
    }  # fmt: skip


def last_error(row: TaskRow, redaction: Redaction) -> dict[str, object] | None:
    return None if row.last_error is None else redaction.failure(row.last_error, row.whole_payload)


def private(wanted: TaskFilter, redaction: Redaction) -> TaskFilter:
    """The filter, searching only what is shown: else it would tell what is not, letter by letter."""
    if redaction.complete:
        return wanted
    return replace(wanted, told=lambda row: told(last_error(row, redaction), row.reason))


def page(found: TaskPage, redaction: Redaction) -> dict[str, object]:
    """A page of a list."""
    return {
        "tasks": [task_row(row, redaction) for row in found.rows],
        "cursor": found.cursor,
        "looked_at": found.looked_at,
        "now_ms": found.now_ms,
        "faults": list(found.faults),
    }


def dead_groups(
    inspector: Inspector, name: str | None, error: str, older_than: float | None, newer_than: float | None
) -> tuple[DeadGroups, DeadSelection]:
    """The groups of a type whose error contains `error`, with how many of each died in that time (ages in
    seconds); and what selects just these letters, of one type."""
    found, now = inspector.dead_groups(name), inspector.now_ms()
    wanted = DeadSelection(
        name or "",
        error=error,
        since_ms=0 if newer_than is None else max(0, now - round(newer_than * 1000)),
        until_ms=END_MS if older_than is None else max(0, now - round(older_than * 1000)),
    )
    groups = [group for group in found.groups if group.tells(error)]
    if newer_than is not None or older_than is not None:
        groups = [replace(group, count=_within(inspector, group, wanted)) for group in groups]
    return DeadGroups([group for group in groups if group.count], found.complete, found.faults), wanted


def _within(inspector: Inspector, group: DeadGroup, wanted: DeadSelection) -> int:
    one = replace(wanted, type=group.type, error="", fingerprint=group.fingerprint)
    return inspector.count_dead(one)


def groups(found: DeadGroups, redaction: Redaction) -> dict[str, Any]:
    return {
        "groups": [dead_group(group, redaction) for group in found.groups],
        "complete": found.complete,
        "faults": list(found.faults),
    }


def dead_group(group: DeadGroup, redaction: Redaction) -> dict[str, object]:
    """A group with the message of its latest letter, as far as that is to be shown."""
    fields = asdict(group)
    payload, framed = fields.pop("payload"), fields.pop("framed")
    if redaction.hide and not framed:
        fields["place"] = ""
    return {**fields, "message": redaction.error_text(group.message, payload)}


def worker(one: WorkerInfo) -> dict[str, object]:
    return asdict(one)


def process(one: WorkerInfo) -> dict[str, object]:
    """A worker or daemon for a page: what its heartbeat should tell, whatever it tells."""
    told = one.details
    state = "silent" if not one.alive else "draining" if told.get("draining") else "alive"
    return {
        "name": one.name, "state": state, "age": one.last_beat_age,
        "host": told.get("host"), "pid": told.get("pid"), "version": told.get("version"),
        "slots": told.get("concurrency", 0), "busy": told.get("running_count", 0),
        "types": told.get("types", []), "problems": told.get("problems", []), "only": told.get("only"),
        "running": list(filter(None, map(running, told.get("running", [])))),
    }  # fmt: skip


def running(task: object) -> dict[str, Any] | None:
    """A task that a worker says it runs: id, attempt, since_ms; None where it does not say so."""
    if not isinstance(task, dict) or not isinstance(task.get("id"), str):
        return None
    return {**task, "attempt": task.get("attempt"), "since_ms": moment(task.get("since_ms"))}


def server(inspector: Inspector) -> dict[str, str]:
    """What the server says of itself; nothing where this user may not ask."""
    try:
        return inspector.server()
    except AuthenticationFailed:
        return {}


def diagnosis(found: Findings, address: object) -> dict[str, object]:
    """What the doctor found, as `streamq doctor --json` prints it, and how old that is."""
    checks = [asdict(check) for check in found.diagnosis.checks]
    return {"server": str(address), "ok": found.diagnosis.ok, "checks": checks, "age": round(found.age, 1)}


LANES: Final = 25
"""Lanes of each list on a page."""


def lanes(inspector: Inspector, task_type: str, redaction: Redaction) -> dict[str, Any]:
    """The lanes of a type: those that have waited longest, and those with most tasks. Their names are
    arguments, so they are hidden where arguments are."""
    found = inspector.lanes(task_type)
    busiest = sorted(found, key=lambda one: -one.parked)

    def shown(one: LaneInfo) -> dict[str, Any]:
        return {**asdict(one), "lane": one.lane if redaction.complete else HIDDEN}

    return {
        "lanes": len(found),
        "oldest": [shown(one) for one in found[:LANES]],
        "busiest": [shown(one) for one in busiest[:LANES]],
    }


def detail(told: dict[str, str], redaction: Redaction) -> dict[str, str]:
    """Where a task is. Its lane's name is an argument."""
    if "lane" not in told:
        return told
    lane = {"\x01": "(none)"}.get(told["lane"], told["lane"])
    return {**told, "lane": lane if redaction.complete else HIDDEN}
