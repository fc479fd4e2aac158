"""The context of a running handler: its task, attempt, deadline and worker.

Owns the Context and the variable that carries it. The worker sets it, the user's handler reads it. Must not
import anything else of streamq: what a handler starts from here goes through the `Home` of its task type.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol


class Task(Protocol):
    """The attributes of a delivery that the context reads."""

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
    def scheduled_ms(self) -> int | None: ...
    @property
    def fence(self) -> int: ...


class Home(Protocol):
    """What a context needs of the app of its task type."""

    def follow(self, task: Any, before: list[Any], calls: Iterable[Any]) -> list[Any]:
        """Check calls and add them as follow-ups to those `before`; return their handles."""


class Context:
    """One attempt, for its handler. Created for every attempt, so it computes nothing beforehand."""

    __slots__ = (  # a dict, so that tests can patch methods
        "__dict__", "_cancelled", "_deadline", "_ended", "_follow_ups", "_home", "_max_attempts", "_state",
        "_task", "_thread", "_worker",
    )  # fmt: skip

    def __init__(
        self, task: Task, max_attempts: int, deadline: float | None, worker: str, home: Home | None = None
    ) -> None:
        self._task = task
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._worker = worker
        self._home = home
        self._follow_ups: list[Any] | None = None
        self._cancelled = False
        self._ended = False
        self._thread = 0
        self._state: Any  # set only where the app has a lifespan

    def __reduce__(self) -> tuple[object, ...]:
        # A child process gives it the home that its task type has there.
        return Context, (self._task, self._max_attempts, self._deadline, self._worker)

    def __repr__(self) -> str:
        return f"<Context of {self.id}, attempt {self.attempt} of {self.max_attempts}>"

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing("Context", name)

    @property
    def id(self) -> str:
        """The task's id, the same in every attempt, so it can serve as an idempotency key for other
        services."""
        return str(self._task.id)

    @property
    def type(self) -> str:
        """The task type."""
        return self._task.type

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._task.attempt

    @property
    def max_attempts(self) -> int:
        """The highest number of attempts."""
        return self._max_attempts

    @property
    def lost(self) -> int:
        """The number of consecutive deliveries before this one that were lost with their workers."""
        return self._task.lost

    @property
    def deadline(self) -> datetime | None:
        """When the attempt's timeout strikes, by the server's clock; None if it has none."""
        return None if self._deadline is None else _moment(self._deadline)

    @property
    def enqueued_at(self) -> datetime:
        """When the task was accepted, by the server's clock."""
        return _moment(self._task.enqueued_ms / 1000)

    @property
    def scheduled_for(self) -> datetime | None:
        """The time that this run of a schedule is for; None where no schedule made the task. The same in
        every attempt, and the time that was missed where the run is late."""
        found = self._task.scheduled_ms
        return None if found is None else _moment(found / 1000)

    @property
    def fence(self) -> int:
        """A number that grows with every start in an ordered lane; 0 in any other task. Store it with what
        you write, and refuse a smaller one: then an attempt that lost its lease cannot overwrite a later
        one."""
        return self._task.fence

    @property
    def worker(self) -> str:
        """The name of the worker process."""
        return self._worker

    @property
    def cancelled(self) -> bool:
        """Whether the task was cancelled, timed out or lost while this handler runs.

        An `async def` handler gets CancelledError; a `def` handler in a thread cannot be stopped and should
        check this from time to time.
        """
        return self._cancelled

    def enqueue(self, call: Any) -> Any:
        """Enqueue a follow-up, made with `task_type.bind(...)`; return its handle.

        It exists from the moment that this task is completed, and only if it is: a failed attempt, or one
        that lost its lease, leaves none. Sends nothing now, and is the same in an `async def` handler.
        Raises what `enqueue` raises for the caller's mistakes.
        """
        return self.enqueue_many([call])[0]

    def enqueue_many(self, calls: Iterable[Any]) -> list[Any]:
        """Enqueue follow-ups, as `enqueue` does; return their handles in order. Of all or none."""
        if self._home is None or self._ended:
            why = "after its handler had returned" if self._ended else "of no app"
            raise LookupError(f"a follow-up was enqueued in an attempt {why}: nothing would send it")
        if self._follow_ups is None:
            self._follow_ups = []
        return self._home.follow(self._task, self._follow_ups, calls)

    @property
    def state(self) -> Any:
        """What the app's lifespan has yielded in this process. For a typed value read `lifespan.state`, or
        depend on it. Raises LookupError if the app has no lifespan."""
        try:
            return self._state
        except AttributeError:
            raise LookupError("the app has no lifespan: declare one with @app.lifespan") from None

    @property
    def logger(self) -> Any:
        """A structlog logger bound to task, type, attempt and worker."""
        import structlog  # noqa: PLC0415 - only for handlers that log

        return structlog.get_logger("streamq.task").bind(
            task=self.id, type=self.type, attempt=self.attempt, worker=self.worker
        )


def end(context: Context) -> list[Any]:
    """Take the follow-ups of an attempt whose handler has returned: from now on it gets no more."""
    context._ended = True  # noqa: SLF001 - its own module
    return context._follow_ups or []  # noqa: SLF001


def at_home(context: Context, home: Home | None, follow_ups: list[Any] | None = None) -> Context:
    """Return a context that came from another process, at home in this one."""
    context._home, context._follow_ups = home, follow_ups  # noqa: SLF001
    return context


CURRENT: ContextVar[Context] = ContextVar("streamq_context")


def get_context() -> Context:
    """Return the context of the running task. Raises LookupError outside a handler."""
    try:
        return CURRENT.get()
    except LookupError:
        raise LookupError("get_context() was called outside a running task") from None


def _moment(seconds: float) -> datetime:
    with suppress(OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(seconds, UTC)
    return datetime.fromtimestamp(0, UTC)
