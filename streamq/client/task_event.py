"""Define an event of a task, and read it from its row in the stream.

Owns what is shown of a row. One that cannot be read is no event. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from streamq.calls.live import Row
from streamq.errors import DecodeError
from streamq.model.task import TaskId
from streamq.payloads.pipeline import opened
from streamq.payloads.stage import About

EventKind = Literal["progress", "value", "log", "end"]
_KINDS: Final[dict[str, EventKind]] = {"progress": "progress", "value": "value", "log": "log"}


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """What a task told, or its end.

    id: to go on from with `after`; '' of the end. kind: progress, value, log or end. attempt: that told it;
    what earlier attempts told is superseded. value: of `emit`; of the end the state, such as "completed".
    done, total: of `progress`. text: of `progress`, and the message of a log record. level, logger: of a log
    record.
    """

    id: str
    kind: EventKind
    attempt: int
    value: Any = None
    done: float = 0.0
    total: float | None = None
    text: str = ""
    level: str = ""
    logger: str = ""


def latest_progress(newest_first: Iterable[Row], app: str, task: TaskId) -> TaskEvent | None:
    """Return the latest progress among rows; None if there is none."""
    events = (event_of(row, app, task) for row in newest_first if row.kind == "progress")
    return next((event for event in events if event is not None), None)


def event_of(row: Row, app: str, task: TaskId) -> TaskEvent | None:
    """Return an event; None if it cannot be read."""
    kind = _KINDS.get(row.kind)
    try:
        value = orjson.loads(opened(row.data, About(app, task.type, "event", str(task))))
    except (ValueError, DecodeError):
        return None
    if kind == "value":
        return TaskEvent(row.id, kind, row.attempt, value)
    if not isinstance(value, dict):
        return None
    if kind == "log":
        level, logger, message = (str(value.get(name) or "") for name in ("level", "logger", "message"))
        return TaskEvent(row.id, kind, row.attempt, text=message, level=level, logger=logger)
    if kind != "progress":
        return None
    done, total = value.get("done"), value.get("total")
    return TaskEvent(
        row.id,
        kind,
        row.attempt,
        done=float(done) if isinstance(done, int | float) else 0.0,
        total=float(total) if isinstance(total, int | float) else None,
        text=str(value.get("text") or ""),
    )
