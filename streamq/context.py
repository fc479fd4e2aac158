"""What a running handler can ask about itself.

Owns the Context value and the variable that carries it. Imports nothing of streamq: the worker sets
it, the user's handler reads it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import Any


@dataclass(frozen=True, slots=True)
class Context:
    """One attempt, as its handler sees it.

    id: the task's id; the same in every attempt, so it can serve as an idempotency key outside.
    type: the task type. attempt: counts from 1. max_attempts: how many there may be.
    lost: deliveries in a row before this one whose worker died.
    deadline: when the attempt's timeout strikes; None where it has none.
    enqueued_at: when the task was accepted. worker: the name of the worker process.
    """

    id: str
    type: str
    attempt: int
    max_attempts: int
    lost: int
    deadline: datetime | None
    enqueued_at: datetime
    worker: str
    _cancelled: Event = field(default_factory=Event, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled, timed out or lost while this handler runs.

        An `async def` handler gets CancelledError; a `def` handler in a thread cannot be stopped and
        should look here now and then.
        """
        return self._cancelled.is_set()

    @property
    def logger(self) -> Any:
        """A structlog logger bound to the task, its type, the attempt and the worker."""
        import structlog  # noqa: PLC0415 - a handler that does not log does not pay for it

        return structlog.get_logger("streamq.task").bind(
            task=self.id, type=self.type, attempt=self.attempt, worker=self.worker
        )


CURRENT: ContextVar[Context] = ContextVar("streamq_context")


def get_context() -> Context:
    """The context of the task that runs here; LookupError outside a handler."""
    try:
        return CURRENT.get()
    except LookupError:
        raise LookupError("get_context() was called outside a running task") from None
