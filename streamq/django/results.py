"""What is stored of a task, as `TaskResult`.

Owns that mapping. Reads nothing by itself.
"""

from __future__ import annotations

from typing import Any

import orjson

from streamq.control.task_info import TaskInfo
from streamq.django import calls, errors
from streamq.django.attempts import moment, started_ms, workers
from streamq.django.names import TaskError, TaskResult, TaskResultStatus
from streamq.model.task import TaskId
from streamq.stored import count

_STATUS = {
    "scheduled": "READY", "parked": "READY", "ready": "READY", "running": "RUNNING",
    "completed": "SUCCESSFUL", "dead": "FAILED", "cancelled": "FAILED", "expired": "FAILED",
}  # fmt: skip


def new_result(task: Any, task_id: str, args: list[Any], kwargs: dict[str, Any]) -> TaskResult[Any]:
    """Return the result of a task that was just enqueued. Its time is that in its id."""
    return TaskResult(
        task=task, id=task_id, status=TaskResultStatus.READY, enqueued_at=None, started_at=None,
        finished_at=None, last_attempted_at=None, args=args, kwargs=kwargs, backend=task.backend, errors=[],
        worker_ids=[],
    )  # fmt: skip


def enqueued(result: TaskResult[Any], at_ms: int) -> None:
    """Note when the server accepted a task."""
    object.__setattr__(result, "enqueued_at", moment(at_ms))


def result_of(task: Any, info: TaskInfo, task_id: str) -> TaskResult[Any] | None:
    """Return a task as stored; None if nothing is left of it. task_id: as it was asked for."""
    if info.state not in _STATUS:
        return None
    record = _record(info)
    args, kwargs = _arguments(task, info, record)
    listed = _failures(record) or [errors.of_failure(one) for one in info.failures]
    attempts = _workers(info, record)
    accepted = _enqueued_ms(info, record)
    started, last, finished = _times(info, record, accepted)
    if info.state in ("cancelled", "expired") and (
        end := errors.of_end(info.state, f"the task was {info.state}")
    ):
        listed.append(end)
    found: TaskResult[Any] = TaskResult(
        task=task,
        id=task_id,
        status=TaskResultStatus[_STATUS[info.state]],
        enqueued_at=moment(accepted),
        started_at=moment(started) if started else None,
        finished_at=moment(finished) if finished else None,
        last_attempted_at=moment(last) if last else None,
        args=args,
        kwargs=kwargs,
        backend=task.backend,
        errors=listed,
        worker_ids=attempts,
    )
    object.__setattr__(found, "_return_value", record.get("return_value"))
    return found


def _record(info: TaskInfo) -> dict[str, Any]:
    """Return the stored result of a Django task; empty if there is none."""
    try:
        found = orjson.loads(info.result) if info.result else None
    except orjson.JSONDecodeError:
        return {}
    return found if calls.is_record(found) else {"return_value": found}  # type: ignore[return-value]


def _arguments(task: Any, info: TaskInfo, record: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = record.get("args"), record.get("kwargs")
    if isinstance(args, list) and isinstance(kwargs, dict):
        return args, kwargs
    try:
        given = orjson.loads(info.payload) if info.payload else {}
    except orjson.JSONDecodeError:
        given = {}
    signature = calls.call_signature(task.func, takes_context=task.takes_context)
    return calls.split(signature, given) if isinstance(given, dict) else ([], {})


def _failures(record: dict[str, Any]) -> list[TaskError]:
    found = record.get("errors")
    return (
        [errors.of_failure(one) for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    )


def _workers(info: TaskInfo, record: dict[str, Any]) -> list[str]:
    """Return a worker for each attempt."""
    stored = record.get("worker_ids")
    if isinstance(stored, list) and stored:
        return [str(one) for one in stored]
    last = ""
    if info.success is not None:
        last = info.success.worker
    elif info.state == "running":
        last = info.detail.get("worker") or "unknown"
    return workers(info.failures, info.attempts_failed, last)


def _times(info: TaskInfo, record: dict[str, Any], accepted: int) -> tuple[int, int, int]:
    """Return when its first attempt began, when its last did, and when it ended: ms, 0 for never.

    A worker's clock follows the server's by a few ms: no time is before the one that it follows. When a
    running attempt began is known to its worker alone: the time is that at which it became ready.
    """
    first = count(record.get("started_ms")) or started_ms(info.failures)
    last = started_ms(info.failures[-1:])
    ended = count(info.detail.get("died_ms")) or count(info.detail.get("ended_ms"))
    if (success := info.success) is not None:
        last, ended = success.at_ms - success.run_ms, success.at_ms
    elif info.state == "running":
        last = count(info.detail.get("entry", "").partition("-")[0])
    last = last and max(last, accepted)
    first = max(accepted, min(first, last)) if first else last
    return first, last, ended and max(ended, last)


def _enqueued_ms(info: TaskInfo, record: dict[str, Any]) -> int:
    """Return when the task was accepted: the id tells it, but for one that began in the schedule."""
    local = TaskId.parse(info.id).local
    stored = count(record.get("enqueued_ms")) or count(info.fields.get("e"))
    return stored or count(local[1:].partition("-")[0])
