"""The rows of task lists, and the filter on them.

Owns how a stored task becomes a row, and what a filter means. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from streamq import envelope
from streamq.calls import listing as listing_calls
from streamq.model.task import State, TaskId
from streamq.payloads.reading import readable
from streamq.payloads.stage import About
from streamq.stored import count

SHOWN: Final = 600
"""Bytes of a payload in a list; the scripts that read lists cut it there."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Selects tasks of a list. None and empty texts select all.

    error: part of the last error's name or message, or of the reason. id: part of the id. older_than,
    newer_than: seconds since the row's `at_ms` (for a scheduled task until it is due, so newer_than means
    "due within"). fingerprint: dead letters of one group. error_text: returns the text of a row that `error`
    is searched in; default: `TaskRow.error_text`.
    """

    error: str = ""
    id: str = ""
    older_than: float | None = None
    newer_than: float | None = None
    fingerprint: str = ""
    error_text: Callable[[TaskRow], str] | None = None

    @property
    def empty(self) -> bool:
        """Whether it selects all rows of a list."""
        return not (self.error or self.id) and self.older_than is None and self.newer_than is None

    def matches(self, row: TaskRow, now_ms: int) -> bool:
        """Return whether it selects a row."""
        age, text = (
            abs(now_ms - row.at_ms) / 1000,
            self.error_text(row) if self.error_text else row.error_text,
        )
        return (
            (not self.id or self.id in row.id)
            and (not self.error or self.error.lower() in text.lower())
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task in a list.

    at_ms: when it became ready (also of a running one), is due, died or ended; of a completed task with a
    long result, or of an older release, when it was enqueued. payload: the first 600 bytes of `payload_size`.
    last_error: the latest failure.
    """

    id: str
    type: str
    state: State
    priority: str
    at_ms: int
    attempts_failed: int = 0
    lost: int = 0
    worker: str = ""
    lease_idle_ms: int = 0
    reason: str = ""
    fingerprint: str = ""
    payload: bytes | None = None
    payload_size: int = 0
    result: bytes | None = None
    last_error: dict[str, object] | None = None
    fields: dict[str, bytes] = field(repr=False, default_factory=dict)

    @property
    def error_text(self) -> str:
        """The text that a filter's `error` is searched in."""
        return error_text(self.last_error, self.reason)

    @property
    def whole_payload(self) -> bytes | None:
        """The payload, if the row has all of it."""
        return self.payload if self.payload is not None and len(self.payload) >= self.payload_size else None


def error_text(failure: dict[str, object] | None, reason: str) -> str:
    """Return the text of a failure that a filter's `error` is searched in."""
    last = failure or {}
    return f"{last.get('error', '')}: {last.get('message', '')} {reason}"


def row_of(app: str, task_type: str, shard: int, row: listing_calls.Row) -> TaskRow:
    """Return a row as read by a script."""
    have = envelope.fields_dict(row.fields)
    failures = envelope.failures(have.get("f", b""), app, task_type)
    payload, task_id = (
        readable(have.get("p"), About(app, task_type, "payload")),
        str(TaskId(task_type, shard, row.local)),
    )
    result = About(app, task_type, "result", task_id)
    return TaskRow(
        id=task_id,
        type=task_type,
        state=row.state,
        priority={"h": "high", "l": "low"}.get(row.priority, "normal"),
        at_ms=row.at_ms,
        attempts_failed=failed_attempts(count(have.get("a")), failures),
        lost=count(have.get("l")),
        worker=row.worker,
        lease_idle_ms=row.idle_ms,
        reason=row.reason,
        fingerprint=row.fingerprint,
        payload=None if payload is None else payload[:SHOWN],
        payload_size=count(have.get("size")) if payload is have.get("p") else len(payload or b""),
        result=(readable(have.get("result"), result) or b"null") if "result" in have else None,
        last_error=failures[-1] if failures else None,
        fields=have,
    )


def failed_attempts(counted: int, failures: list[dict[str, object]]) -> int:
    """Return how many attempts failed: the last one of a dead letter is only in its history."""
    return max(counted, len([failure for failure in failures if failure.get("error") != "WorkerLost"]))
