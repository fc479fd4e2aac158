"""Build what the pages and the JSON API show, as plain JSON objects. Reads through the inspector only.

Owns the shapes of the API. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from streamq.control.dead_letters import END_MS, DeadGroup, DeadGroups, DeadSelection
from streamq.control.inspector import Inspector
from streamq.control.lanes import LaneInfo
from streamq.control.schedule_info import ScheduleInfo
from streamq.control.standstill import late_by
from streamq.control.task_info import TaskInfo
from streamq.control.task_list import TaskPage
from streamq.control.task_rows import TaskFilter, TaskRow, error_text
from streamq.dashboard import task_views
from streamq.dashboard.findings import Findings
from streamq.dashboard.redaction import HIDDEN, Redaction
from streamq.errors import AuthenticationFailed
from streamq.heartbeat import DETAILS, WorkerInfo
from streamq.options.schedule import zone
from streamq.stored import moment


def task(info: TaskInfo, redaction: Redaction) -> dict[str, object]:
    """Return a task with all its details."""
    result = (info.result or b"null") if info.result is not None else None
    failures = [redaction.failure(one, info.payload) for one in info.failures]
    memos = {name: redaction.result(one, info.payload) for name, one in info.memos.items()}
    return {
        "id": info.id, "type": info.type, "state": info.state, "payload": redaction.value(info.payload),
        "attempts_failed": info.attempts_failed, "lost": info.lost, "failures": failures,
        "detail": detail(info.detail, redaction), "result": redaction.result(result, info.payload),
        "success": info.success._asdict() if info.success else None, "origin": origin(info),
        "progress": progress(info, redaction), "told": task_views.told(info, redaction),
        "suspended": suspended(info, redaction),
        "memos": by_name(info, memos, redaction),
        "mailbox": by_name(info, info.mailbox, redaction),
        "flows": [{"id": one.id, "state": one.state} for one in info.flows],
    }  # fmt: skip


def suspended(info: TaskInfo, redaction: Redaction) -> dict[str, object] | None:
    """Return what a task waits for without a worker; the signal's name may repeat arguments."""
    found = info.suspended
    if found is None:
        return None
    signal = None if found.signal is None else redaction.error_text(found.signal, info.payload)
    return {"until_ms": found.until_ms, "signal": signal}


def by_name(info: TaskInfo, found: Mapping[str, object], redaction: Redaction) -> dict[str, object]:
    """Return values by the names of steps or signals. Names may repeat arguments, which are masked in them;
    those that are the same then are numbered."""
    shown: dict[str, object] = {}
    for name, value in found.items():
        masked = redaction.error_text(name, info.payload)
        shown[f"{masked} #{len(shown) + 1}" if masked in shown else masked] = value
    return shown


def progress(info: TaskInfo, redaction: Redaction) -> dict[str, object] | None:
    """Return how far a task is; the text may repeat arguments, so it is hidden if any of these are."""
    told = info.progress
    if told is None:
        return None
    text = told.text if redaction.complete or not told.text else HIDDEN
    return {"done": told.done, "total": told.total, "text": text, "attempt": told.attempt}


def origin(info: TaskInfo) -> str | None:
    """Return the id of the dead letter that this task was created from."""
    raw = info.fields.get("o")
    head = info.id.rpartition(":")[0]
    return f"{head}:{raw.decode('utf-8', 'replace')}" if raw else None


def task_row(row: TaskRow, redaction: Redaction) -> dict[str, object]:
    """Return a task for a list. `payload` is text, truncated."""
    fields = asdict(row)
    del fields["fields"]
    return {
        **fields, "payload": redaction.short(row.payload, 600),
        "result": redaction.short_result(row.result, row.whole_payload, 600),
        "last_error": last_error(row, redaction),
    }  # fmt: skip


def last_error(row: TaskRow, redaction: Redaction) -> dict[str, object] | None:
    return None if row.last_error is None else redaction.failure(row.last_error, row.whole_payload)


def visible_filter(wanted: TaskFilter, redaction: Redaction) -> TaskFilter:
    """Return the filter restricted to visible text: otherwise a search could reveal the rest, letter by
    letter."""
    if redaction.complete:
        return wanted
    return replace(wanted, error_text=lambda row: error_text(last_error(row, redaction), row.reason))


def page(found: TaskPage, redaction: Redaction) -> dict[str, object]:
    """Return a page of a list."""
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
    """Return the groups of a type whose error contains `error`, with the number of each that died in that
    time (ages in seconds), and the selection of these dead letters, for one type."""
    found, now = inspector.dead_groups(name), inspector.now_ms()
    wanted = DeadSelection(
        name or "",
        error=error,
        since_ms=0 if newer_than is None else max(0, now - round(newer_than * 1000)),
        until_ms=END_MS if older_than is None else max(0, now - round(older_than * 1000)),
    )
    groups = [group for group in found.groups if group.matches(error)]
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
    """Return a group with the message of its latest dead letter, redacted."""
    fields = asdict(group)
    payload, framed = fields.pop("payload"), fields.pop("framed")
    if redaction.hide and not framed:
        fields["place"] = ""
    line = "" if redaction.hide else redaction.error_text(group.line, payload)
    return {**fields, "line": line, "message": redaction.error_text(group.message, payload)}


def process(one: WorkerInfo) -> dict[str, object]:
    """Return a worker or daemon for a page, whatever its heartbeat contains."""
    details = one.details
    state = "silent" if not one.alive else "draining" if details.get("draining") else "alive"
    return {
        "name": one.name, "state": state, "age": one.last_beat_age,
        "host": details.get("host"), "pid": details.get("pid"), "version": details.get("version"),
        "slots": details.get("concurrency", 0), "busy": details.get("running_count", 0),
        "types": details.get("types", []), "problems": details.get("problems", []),
        "only": details.get("only"),
        "pairs": [(row.label, _said(details.get(name))) for name, row in DETAILS.items() if row.label],
        "running": list(filter(None, map(running, details.get("running", [])))),
    }  # fmt: skip


def _said(detail: object) -> object:
    return ", ".join(map(str, detail)) if isinstance(detail, list) else detail


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task that a worker reports as running."""

    id: str
    attempt: object
    since_ms: int


def running(task: object) -> RunningTask | None:
    """Return a task in a worker's report; None if the report is damaged."""
    if not isinstance(task, dict) or not isinstance(task.get("id"), str):
        return None
    return RunningTask(task["id"], task.get("attempt"), moment(task.get("since_ms")))


def late(one: ScheduleInfo, now_ms: int) -> bool:
    """Return whether the next run of a schedule should have been made."""
    return late_by(one, now_ms) > 0


def schedule(one: ScheduleInfo, now_ms: int) -> dict[str, object]:
    """A schedule for a page: whether it is late, its next runs and its last in its own zone."""
    return {
        "late": late(one, now_ms),
        **asdict(one), "local": {ms: _local(ms, one.tz) for ms in (*one.upcoming, one.last_for_ms) if ms},
        "missed": sorted((one.skipped or {}).items()),
    }  # fmt: skip


def _local(ms: int, tz: str) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, zone(tz)).strftime("%Y-%m-%d %H:%M:%S %Z")
    except (OverflowError, ValueError, OSError):
        return str(ms)


def server(inspector: Inspector) -> dict[str, str]:
    """Return the server's INFO; empty if the user may not read it."""
    try:
        return inspector.server()
    except AuthenticationFailed:
        return {}


def diagnosis(found: Findings, address: object) -> dict[str, object]:
    """Return the doctor's findings as `streamq doctor --json` prints them, and their age."""
    checks = [asdict(check) for check in found.diagnosis.checks]
    return {"server": str(address), "ok": found.diagnosis.ok, "checks": checks, "age": round(found.age, 1)}


LANES: Final = 25
"""Lanes of each list on a page."""


def lanes(inspector: Inspector, task_type: str, redaction: Redaction) -> dict[str, Any]:
    """Return the lanes of a type: those that have waited longest, and those with most tasks. Their names are
    arguments, so they are hidden if arguments are."""
    found = inspector.lanes(task_type)
    busiest = sorted(found, key=lambda one: -one.parked)

    def shown(one: LaneInfo) -> dict[str, object]:
        return {**asdict(one), "lane": one.lane if redaction.complete else HIDDEN}

    return {
        "lanes": len(found),
        "oldest": [shown(one) for one in found[:LANES]],
        "busiest": [shown(one) for one in busiest[:LANES]],
    }


def locks(inspector: Inspector, task_type: str, redaction: Redaction) -> dict[str, Any]:
    """Return the locks of a type's unique keys, those that have been held longest first. A digest could be
    compared with those of guessed arguments, so it is hidden if arguments are."""
    found = inspector.locks(task_type, LOCKS_COUNTED + 1)
    oldest = sorted(found, key=lambda one: (one.since_ms == 0, one.since_ms))[:LOCKS]
    shown = [asdict(one) | ({} if redaction.complete else {"key": HIDDEN}) for one in oldest]
    return {"held": min(len(found), LOCKS_COUNTED), "more": len(found) > LOCKS_COUNTED, "oldest": shown}


LOCKS: Final = 25
"""Locks on a page."""
LOCKS_COUNTED: Final = 2000
"""Of more locks it is only said that there are more."""


def detail(where: dict[str, str], redaction: Redaction) -> dict[str, str]:
    """Return where a task is. The name of its lane and the digest of its key come from arguments: they are
    hidden if these are."""
    if "lane" in where:
        lane = {"\x01": "(none)"}.get(where["lane"], where["lane"])
        where = {**where, "lane": lane if redaction.complete else HIDDEN}
    if "unique_key" in where and not redaction.complete:
        where = {**where, "unique_key": HIDDEN}
    return where
