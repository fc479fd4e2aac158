"""The errors for tasks that were not accepted, or not as durable as asked.

Owns their texts. Must not know a connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from streamq.errors import (
    DurabilityUnknown,
    IdempotencyConflict,
    QueueFull,
    RateLimitExceeded,
    ServerError,
    UniqueConflict,
)
from streamq.model.task import (
    Accepted,
    Answer,
    BacklogFull,
    Conflict,
    Duplicate,
    Locked,
    RateLimited,
    TaskId,
    Unconfirmed,
    Unjoined,
)

Refusal = Conflict | Locked | Unjoined | RateLimited | BacklogFull | Unconfirmed


def refuse(task_type: str, shard: int, answer: Refusal, accepted: Sequence[object]) -> NoReturn:
    """Raise the error for a task that was not accepted, or not as durable as asked."""
    match answer:
        case Conflict(first):
            _conflict(task_type, shard, first, accepted)
        case Locked(local):
            _locked(TaskId(task_type, shard, local), accepted)
        case Unjoined():
            raise ServerError(
                f"the policy of task type {task_type!r} asks for something that this release does not know: "
                "nothing was sent. Upgrade streamq in this program"
            )
        case Unconfirmed(local, why):
            _unconfirmed(TaskId(task_type, shard, local), why, accepted)
        case _:
            _not_accepted(task_type, answer, accepted)


def existing_of(answer: Answer) -> Accepted | Duplicate | None:
    """Return the task in an answer; None if there is none."""
    match answer:
        case Accepted() | Duplicate():
            return answer
        case Unconfirmed(local, _, duplicate):
            return Duplicate(local) if duplicate else Accepted(local)
        case _:
            return None


def _conflict(task_type: str, shard: int, first: str, accepted: Sequence[object]) -> NoReturn:
    other, _, local = first.partition(":")
    task = TaskId(other, shard, local)
    raise IdempotencyConflict(
        f"the idempotency key of this {task_type!r} task belongs to task {task}, with another type or other "
        "arguments: a key names one task. Use a new key",
        task_id=str(task),
        accepted=accepted,
    )


def _locked(holder: TaskId, accepted: Sequence[object]) -> NoReturn:
    raise UniqueConflict(
        f"task {holder} holds the unique key of this {holder.type!r} task: nothing was sent. Send it again "
        "when that task has ended, or choose another on_conflict",
        task_id=str(holder),
        accepted=accepted,
    )


def _unconfirmed(task: TaskId, why: str, accepted: Sequence[object]) -> NoReturn:
    raise DurabilityUnknown(
        f"task {task} exists on the server and will run, but may be less durable than asked: {why}. "
        "Enqueueing it again creates a second task, unless it has an idempotency key",
        task_id=str(task),
        accepted=accepted,
    )


def _not_accepted(task_type: str, answer: RateLimited | BacklogFull, accepted: Sequence[object]) -> NoReturn:
    if isinstance(answer, RateLimited):
        wait = answer.retry_after_ms / 1000
        raise RateLimitExceeded(
            f"rate limit exceeded for task type {task_type!r}: retry in {wait:g} s",
            retry_after=wait,
            accepted=accepted,
        )
    raise QueueFull(
        f"backlog limit reached for task type {task_type!r}: retry when workers have caught up",
        accepted=accepted,
    )
