"""Celery's call sites over streamq: `shared_task`, `.delay`, `.apply_async` and what they return.

    from streamq.compat.celery import attach, shared_task   # was: from celery import shared_task

    attach(app)                    # once, where the app is made

Owns the translation of names. Scaffolding for a move: what is not listed here raises an error with streamq's
word for it, and there are no canvas, no signals and no settings. Must not import Celery.

A shared task behaves as Celery's unless its options say otherwise: it runs once (max_attempts=1), without a
time limit. Its options are those of `@app.task`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

from streamq.app.app import StreamQ
from streamq.app.handle import TaskHandle
from streamq.app.task_type import Coro, TaskType
from streamq.errors import InvalidOption, UsageError
from streamq.migration_hints import TABLES, option_hint
from streamq.model.task import Priority, State
from streamq.options.checks import Duration
from streamq.options.table import PER_CALL, POLICY
from streamq.options.task import task_options
from streamq.options.typed import PerCall, Policy

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

CeleryState = Literal["PENDING", "STARTED", "SUCCESS", "FAILURE", "REVOKED"]

_STATES: Final[dict[State, CeleryState]] = {
    "running": "STARTED",
    "completed": "SUCCESS",
    "dead": "FAILURE",
    "cancelled": "REVOKED",
    "expired": "REVOKED",
}
"""All others are PENDING, which in Celery also means that no such task is known."""

_DEFAULTS: Final[Policy] = {"max_attempts": 1, "timeout": None}


class AsyncResult(Generic[R_co]):
    """What `delay` returns; also made from a task's id by `SharedTask.AsyncResult`. `handle` is streamq's."""

    def __init__(self, handle: TaskHandle[R_co]) -> None:
        self.handle: TaskHandle[R_co] = handle

    def __repr__(self) -> str:
        return f"<AsyncResult {self.id}>"

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            _missing(self, "TaskHandle", "RESULT_ATTRIBUTES", name)

    @property
    def id(self) -> str:
        """The task's id, made by the server."""
        return self.handle.id

    @property
    def state(self) -> CeleryState:
        """The state in Celery's words: PENDING, STARTED, SUCCESS, FAILURE or REVOKED."""
        return _STATES.get(self.handle.status(), "PENDING")

    @property
    def status(self) -> CeleryState:
        """The state, as `state`."""
        return self.state

    def get(self, timeout: Duration | None = None) -> R_co:
        """Wait for the return value. Raises streamq's errors, such as TaskDead: not what the task raised."""
        return self.handle.result(timeout)

    def ready(self) -> bool:
        """Return whether the task has ended."""
        return self.state in ("SUCCESS", "FAILURE", "REVOKED")

    def successful(self) -> bool:
        """Return whether it completed."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Return whether it is a dead letter."""
        return self.state == "FAILURE"

    def revoke(self, terminate: bool = True) -> None:
        """Cancel the task. A running one is always asked to stop: `terminate=False` raises InvalidOption."""
        if not terminate:
            raise InvalidOption("revoke(terminate=False): a running task is cancelled too; leave it out")
        self.handle.cancel()


class SharedTask(Generic[P, R]):
    """A task type that belongs to the app that is attached. Calling it runs the function in this process."""

    def __init__(self, function: Callable[P, Any], name: str, policy: Policy) -> None:
        self.name: str = name
        self.__wrapped__: Callable[P, Any] = function
        self._policy = policy
        self._bound: TaskType[P, R, Any] | None = None

    def __repr__(self) -> str:
        return f"<SharedTask {self.name!r}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            _missing(self, "TaskType", "TASK_ATTRIBUTES", name)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run the function in this process."""
        return self.__wrapped__(*args, **kwargs)

    @property
    def task_type(self) -> TaskType[P, R, Any]:
        """The task type, with `enqueue` and `aenqueue`. Raises UsageError if no app is attached."""
        if self._bound is None:
            raise UsageError(
                f"shared task {self.name!r} belongs to no app yet: call streamq.compat.celery.attach(app) "
                "where the app is made, before the first task is sent"
            )
        return self._bound

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send one task."""
        return AsyncResult(self.task_type.enqueue(*args, **kwargs))

    def apply_async(
        self,
        args: Sequence[object] | None = None,
        kwargs: Mapping[str, object] | None = None,
        *,
        countdown: float | None = None,
        eta: datetime | None = None,
        expires: float | datetime | None = None,
        priority: Priority | None = None,
        task_id: str | None = None,
        **others: object,
    ) -> AsyncResult[R]:
        """Send one task. countdown: seconds. eta: with a time zone. expires: seconds from now, or a time.
        priority: "high", "normal" or "low". task_id: an idempotency key; the id is made by the server.

        Raises InvalidOption for every other option of Celery's, with streamq's word for it.
        """
        for name in others:
            raise InvalidOption(f"apply_async() has no option {name!r}: {_word_for(name)}")
        given: PerCall = {
            "delay": countdown,
            "at": eta,
            "expires": _life(expires, countdown, eta),
            "priority": priority,
            "idempotency_key": task_id,
        }
        sender = self.task_type.options(**given)
        call: Any = sender.enqueue  # the arguments come as a sequence and a mapping, which no signature fits
        return AsyncResult(call(*(args or ()), **(kwargs or {})))

    def AsyncResult(self, task_id: str) -> AsyncResult[R]:  # noqa: N802 - Celery's name
        """Return the result of a task by its id. Raises InvalidTaskId."""
        return AsyncResult(_shared.attached().handle(task_id))

    def _attach(self, app: StreamQ) -> None:
        self._bound = app.task(name=self.name, **self._policy)(self.__wrapped__)


AnySharedTask: TypeAlias = SharedTask[..., Any]


class _Shared:
    """The app, and the shared tasks that wait for one."""

    def __init__(self) -> None:
        self.app: StreamQ | None = None
        self.tasks: list[AnySharedTask] = []

    def attach(self, app: StreamQ) -> None:
        if self.app is not None and self.app is not app:
            raise UsageError(f"shared tasks belong to app {self.app.name!r} already: attach one app")
        self.app = app
        while self.tasks:
            self.tasks.pop(0)._attach(app)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001

    def add(self, task: AnySharedTask) -> None:
        self.tasks.append(task)
        if self.app is not None:
            self.attach(self.app)

    def attached(self) -> StreamQ:
        if self.app is None:
            raise UsageError("no app is attached: call streamq.compat.celery.attach(app) where it is made")
        return self.app


_shared = _Shared()


def attach(app: StreamQ) -> None:
    """Let shared tasks belong to an app: those that exist, and those that are defined later."""
    _shared.attach(app)


class SharedDecorator:
    """What `shared_task(...)` with options returns: takes an `async def` or a `def`."""

    def __init__(self, name: str | None, policy: Policy) -> None:
        self._name, self._policy = name, policy

    @overload
    def __call__(self, function: Callable[P, Coro[R]], /) -> SharedTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SharedTask[P, R]: ...

    def __call__(self, function: Callable[..., object], /) -> AnySharedTask:
        """Define a shared task."""
        name = self._name or f"{function.__module__}.{function.__name__}"
        task: AnySharedTask = SharedTask(function, name, {**_DEFAULTS, **self._policy})
        _shared.add(task)
        return task


@overload
def shared_task(function: Callable[P, Coro[R]], /) -> SharedTask[P, R]: ...
@overload
def shared_task(function: Callable[P, R], /) -> SharedTask[P, R]: ...
@overload
def shared_task(*, name: str | None = None, **policy: Unpack[Policy]) -> SharedDecorator: ...


def shared_task(function: Any = None, /, *, name: str | None = None, **policy: Any) -> Any:
    """Define a shared task: `@shared_task`, or with options of `@app.task`. Its name is `module.function`, as
    Celery's is. Raises InvalidOption for an option of Celery's, with streamq's word for it."""
    for option in policy:
        if option not in POLICY and (word := _words("TASK").get(option)):
            raise InvalidOption(f"@shared_task has no option {option!r}: {word}")
    task_options(policy)  # a wrong option is told in this line, not where the app is attached
    decorator = SharedDecorator(name, policy)  # type: ignore[arg-type]
    return decorator if function is None else decorator(function)


def _life(expires: float | datetime | None, countdown: float | None, eta: datetime | None) -> float | None:
    """Return the seconds that a task may wait once it is due: Celery counts from the call, streamq from then.
    Raises InvalidOption for times without a zone, and if the task would never run."""
    if expires is None:
        return None
    left = _seconds_until(expires, "expires")
    due = countdown if countdown is not None else 0.0 if eta is None else max(0.0, _seconds_until(eta, "eta"))
    if left <= due:
        raise InvalidOption(f"expires={expires!r} is over before the task is due: it would never run")
    return left - due


def _seconds_until(moment: float | datetime, name: str) -> float:
    if not isinstance(moment, datetime):
        return moment
    if moment.tzinfo is None:
        raise InvalidOption(f"{name}={moment!r} has no time zone: write datetime.now(UTC) + timedelta(...)")
    return (moment - datetime.now(UTC)).total_seconds()


def _words(table: str) -> Mapping[str, str]:
    from streamq.compat import celery_words  # noqa: PLC0415 - a name that is missing is rare

    words: Mapping[str, str] = getattr(celery_words, table)
    return words


def _word_for(option: str) -> str:
    """Return what to write instead of an option: those of a call are given to the task type."""
    if word := _words("CALL").get(option):
        return word
    hint = option_hint(option, sorted(PER_CALL))
    return hint.replace("did you mean", "task_type.options(...).enqueue(...) has")


def _missing(owner: object, table: str, more: str, name: str) -> NoReturn:
    hint = TABLES[table].get(name) or _words(more).get(name)
    raise AttributeError(f"{type(owner).__name__} has no attribute {name!r}" + (f": {hint}" if hint else ""))
