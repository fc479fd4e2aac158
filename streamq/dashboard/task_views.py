"""A task's page: its attempts as a time line, and where it leads.

Owns what the page says beyond the JSON of a task. Builds plain objects; must not know HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from streamq.control.task_info import TaskInfo
from streamq.dashboard.redaction import HIDDEN, Redaction
from streamq.dashboard.trace_links import address_of
from streamq.envelope import PARENT
from streamq.errors import InvalidTaskId
from streamq.model.task import TaskId
from streamq.stored import moment, real

_ASKED: Final = ("streamq.errors.Retry", "streamq.errors.RateLimited")
"""Exceptions by which a handler asks to run again: nothing failed."""
TOLD: Final = 30
"""Values and log records of a task that its page shows."""
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


class Link(NamedTuple):
    """Where a task leads: what it is, its name, and the path of its page with a query, or ''."""

    label: str
    text: str
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()
    address: str = ""
    """Of a page elsewhere."""


def attempt(failure: Mapping[str, object]) -> dict[str, object]:
    """Return an attempt for the time line: `waited` and `ran` in seconds, None if unknown; `asked`, if its
    handler asked to run again."""
    spent = {name: failure.get(f"{key}_ms") for name, key in (("waited", "wait"), ("ran", "run"))}
    seconds = {k: real(v) / 1000 if isinstance(v, int | float) else None for k, v in spent.items()}
    return {**failure, **seconds, "asked": failure.get("class") in _ASKED}


def links(info: TaskInfo, detail: Mapping[str, str], trace_url: str = "") -> list[Link]:
    """Return the parent, the lane, the schedule and the trace of a task."""
    return [*_parent(info), *_lane(info, detail), *_schedule(info), *_trace(info, trace_url)]


def _parent(info: TaskInfo) -> Iterator[Link]:
    """The task whose handler enqueued this one as a follow-up."""
    try:
        parent = str(TaskId.parse(info.fields.get(PARENT, b"").decode("ascii", "replace")))
    except InvalidTaskId:
        return
    yield Link("Parent", parent, f"/tasks/{parent}")


def _lane(info: TaskInfo, detail: Mapping[str, str]) -> Iterator[Link]:
    if lane := detail.get("lane"):
        yield Link("Lane", lane, f"/types/{info.type}/lanes" if lane != HIDDEN else "")


def _schedule(info: TaskInfo) -> Iterator[Link]:
    name, _, _ = info.fields.get("r", b"").decode("utf-8", "replace").rpartition("@")
    if name:
        yield Link("Schedule", name, "/schedules", (("name", name),))


def _trace(info: TaskInfo, trace_url: str) -> Iterator[Link]:
    raw: Any = info.fields.get("t", b"")
    if raw.startswith(b"{"):
        try:
            raw = str(orjson.loads(raw).get("traceparent", "")).encode()
        except (ValueError, AttributeError):
            return
    if found := _TRACE.fullmatch(raw.decode("ascii", "replace")):
        yield Link("Trace", found[1], address=address_of(trace_url, found[1]))


def told(info: TaskInfo, redaction: Redaction) -> list[dict[str, object]]:
    """Return the last values and log records of a task; they may repeat its arguments."""
    shown = [one for one in info.told if one.kind in ("value", "log")][-TOLD:]
    return [
        {
            "kind": one.kind, "attempt": one.attempt, "level": one.level, "logger": one.logger,
            "text": redaction.error_text(one.text or orjson.dumps(one.value).decode(), info.payload),
        }
        for one in shown
    ]  # fmt: skip


def enqueued(fields: Mapping[str, bytes], local: str) -> int | None:
    """Return when a task was accepted: it is in the id, except for tasks that were scheduled first."""
    if raw := fields.get("e", b""):
        return moment(raw) or None
    return None if local[0] == "d" else moment(local[1:].partition("-")[0])
