"""What a running handler can ask about itself.

Owns the Context value and the variable that carries it. The worker sets it, the user's handler reads it.
Needs nothing else of streamq.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol


class Task(Protocol):
    """What the context needs of a delivery."""

    @property
    def id(self) -> object: ...
    @property
    def type(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def enqueued_ms(self) -> int: ...
    @property
    def fence(self) -> int: ...


class Context:
    """One attempt, as its handler sees it. Made for every attempt, so it works out nothing beforehand."""

    __slots__ = ("_cancelled", "_deadline", "_max_attempts", "_task", "_thread", "_worker")

    def __init__(self, task: Task, max_attempts: int, deadline: float | None, worker: str) -> None:
        self._task = task
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._worker = worker
        self._cancelled = False
        self._thread = 0

    def __repr__(self) -> str:
        return f"<Context of {self.id}, attempt {self.attempt} of {self.max_attempts}>"

    if not TYPE_CHECKING:  # which would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - for a slip only

            missing("Context", name)

    @property
    def id(self) -> str:
        """The task's id; the same in every attempt, so it can serve as an idempotency key outside."""
        return str(self._task.id)

    @property
    def type(self) -> str:
        """The task type."""
        return self._task.type

    @property
    def attempt(self) -> int:
        """Which attempt this is; counts from 1."""
        return self._task.attempt

    @property
    def max_attempts(self) -> int:
        """How many attempts there may be."""
        return self._max_attempts

    @property
    def lost(self) -> int:
        """How many deliveries in a row before this one were lost with their workers."""
        return self._task.lost

    @property
    def deadline(self) -> datetime | None:
        """When the attempt's timeout strikes, by the server's clock; None where it has none."""
        return None if self._deadline is None else _moment(self._deadline)

    @property
    def enqueued_at(self) -> datetime:
        """When the task was accepted, by the server's clock."""
        return _moment(self._task.enqueued_ms / 1000)

    @property
    def fence(self) -> int:
        """A number that grows with every start in an ordered lane; 0 in any other task. Store it with what
        you write, and refuse a smaller one: then an attempt that was given up cannot overwrite a later
        one."""
        return self._task.fence

    @property
    def worker(self) -> str:
        """The name of the worker process."""
        return self._worker

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled, timed out or lost while this handler runs.

        An `async def` handler gets CancelledError; a `def` handler in a thread cannot be stopped and
        should look here now and then.
        """
        return self._cancelled

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


def _moment(seconds: float) -> datetime:
    with suppress(OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromtimestamp(0, UTC)
