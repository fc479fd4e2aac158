"""Hooks around an app's tasks: a user's middleware, and streamq's own observers.

Owns the two kinds of hook, *around* (an enqueue call, a delivery, a handler) and *observer* (an attempt
began, failed, ended, was stored), and the hooks of an app. Must not call any: an app without hooks pays
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeVar, get_args

from streamq.errors import UsageError
from streamq.resources.kinds import made

if TYPE_CHECKING:
    from streamq.calls.call import Call
    from streamq.context import Context
    from streamq.model.delivery import Delivery
    from streamq.model.outcome import Outcome
    from streamq.model.task import NewTask

R = TypeVar("R")
TaskEndedState = Literal["completed", "retried", "dead", "cancelled", "expired", "handed_back"]
Manager = AbstractContextManager[object] | AbstractAsyncContextManager[object]


def name_of(outcome: Outcome) -> str:
    """Return the name of an outcome, as it is in logs and metrics."""
    from streamq.model import outcome as outcomes  # noqa: PLC0415 - a producer sees none

    return outcomes.name_of(outcome)


class Enqueue:
    """One enqueue call before it is sent, for the hooks around it.

    app, task_type: of its tasks. tasks: to send; a hook may replace each. ids: after the call, the id of each
    task, '' for one that was refused.
    """

    __slots__ = ("_count", "app", "ids", "task_type", "tasks")

    def __init__(self, app: str, task_type: str, tasks: Sequence[NewTask]) -> None:
        self.app: str = app
        self.task_type: str = task_type
        self.tasks: list[NewTask] = list(tasks)
        self._count = len(tasks)
        self.ids: tuple[str, ...] = ()

    def carry_trace(self, header: bytes) -> None:
        """Add a trace context to every task; its deliveries have it as `trace`."""
        self.tasks = [task._replace(fields=(*task.fields, ("t", header))) for task in self.tasks]

    def checked(self) -> list[NewTask]:
        """Return the tasks to send. Raises UsageError if a hook has added or removed one."""
        if len(self.tasks) != self._count:
            raise UsageError(
                f"a hook around an enqueue call changed the number of tasks from {self._count} to "
                f"{len(self.tasks)}: it may replace each, or raise to refuse all"
            )
        return self.tasks


class TaskEnded(NamedTuple):
    """What a listener is told: a worker has stored the outcome of a delivery.

    state: completed, retried, dead, cancelled, expired or handed_back. seconds: how long the handler ran;
    None if it was not called. error, message: of the attempt that failed. reason: why a dead task is not
    tried again.
    """

    state: str
    task: Delivery
    seconds: float | None
    at_ms: int
    error: str = ""
    message: str = ""
    reason: str = ""

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self.task.id)

    @property
    def type(self) -> str:
        """The task type."""
        return self.task.type


class Hook:
    """Middleware: override the methods you need, and pass an object to `StreamQ(hooks=[...])`.

    A method that is not overridden is never called. Of several hooks the first is the outermost.
    """

    def around_enqueue(self, call: Enqueue) -> AbstractContextManager[object]:
        """Wrap an enqueue call; an async one too if `around_aenqueue` is not overridden.

        An exception before the `yield` refuses the call; the call's own exception is raised at the `yield`.
        """
        raise NotImplementedError

    def around_aenqueue(self, call: Enqueue) -> AbstractAsyncContextManager[object]:
        """Wrap an async enqueue call."""
        raise NotImplementedError

    def around_attempt(
        self, context: Context
    ) -> AbstractContextManager[object] | AbstractAsyncContextManager[object]:
        """Wrap a handler, in the process where it runs, under its timeout.

        An async context manager runs on the event loop, a sync one directly around the function, in the
        thread of a `def` handler. Its exception is the attempt's failure. It cannot hide a failure: an
        exception that it swallows is raised again.
        """
        raise NotImplementedError

    def around_delivery(self, task: Delivery, worker: str) -> AbstractContextManager[object]:
        """Wrap all that a worker does with a delivery, from decoding to `attempt_ended`, on its event loop.
        An exception of the handler does not pass through here: see `attempt_failed`."""
        raise NotImplementedError

    def attempt_began(self, task: Delivery, at_ms: int) -> None:
        """Observe that a handler is about to be called, at this time by the server's clock."""

    def attempt_failed(self, task: Delivery, error: str, message: str, traceback: str) -> None:
        """Observe that an attempt failed with an exception of this class, or could not be decoded."""

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        """Observe that the worker decided a delivery's outcome; None if the delivery is no longer the
        worker's.

        seconds: how long the handler ran; None if it was not called. Called once for every delivery that took
        a slot of the worker.
        """

    def attempt_stored(self, task: Delivery, outcome: Outcome, seconds: float | None, at_ms: int) -> None:
        """Observe that the server stored the outcome, which makes it final. at_ms: when the attempt ended."""

    def drain(self, now_ms: int) -> Sequence[Call[Any]]:  # noqa: ARG002 - to be overridden
        """Return calls to send to the server; called several times a second in the lease thread."""
        return ()


NAMES: Final = (
    "around_enqueue", "around_aenqueue", "around_attempt", "around_delivery",
    "attempt_began", "attempt_failed", "attempt_ended", "attempt_stored", "drain",
)  # fmt: skip


def implemented(hooks: Iterable[object], name: str) -> tuple[Callable[..., Any], ...]:
    """Return the methods of this name, of the hooks that override it."""
    found = (hook for hook in hooks if getattr(type(hook), name, None) is not getattr(Hook, name))
    return tuple(getattr(hook, name) for hook in found if hasattr(hook, name))


class Hooks:
    """The hooks of one app, in order. Raises UsageError for an object that is not a hook."""

    def __init__(self, hooks: Iterable[object] = ()) -> None:
        self.all: tuple[object, ...] = tuple(hooks)
        for hook in self.all:
            if isinstance(hook, type) or not any(implemented([hook], name) for name in NAMES):
                raise UsageError(
                    f"hooks=[{hook!r}] is not a hook: pass an object with one of {', '.join(NAMES)}"
                )
        self.enqueue: tuple[Callable[[Enqueue], AbstractContextManager[object]], ...]
        self.enqueue = implemented(self.all, "around_enqueue")
        self.aenqueue: tuple[Callable[[Enqueue], Manager], ...]
        self.aenqueue = tuple(
            method
            for hook in self.all
            for method in (implemented([hook], "around_aenqueue") or implemented([hook], "around_enqueue"))
        )
        self.attempt: tuple[Callable[[Context], Manager], ...] = implemented(self.all, "around_attempt")
        self.delivery: tuple[Callable[[Delivery, str], AbstractContextManager[object]], ...]
        self.delivery = implemented(self.all, "around_delivery")
        self.listeners: dict[str, list[Callable[[TaskEnded], object]]] = {}

    def add_around_attempt(self, function: Callable[[Context], object]) -> None:
        """Add a generator function around attempts, inside of those before. Raises UsageError."""
        self.attempt = (*self.attempt, _manager("around_attempt", function)[1])

    def add_around_enqueue(self, function: Callable[[Enqueue], object]) -> None:
        """Add a generator function around enqueue calls; an async one is around async calls only."""
        kind, make = _manager("around_enqueue", function)
        if kind == "sync":
            self.enqueue = (*self.enqueue, make)
        self.aenqueue = (*self.aenqueue, make)

    def listen(self, state: str, function: Callable[[TaskEnded], object]) -> None:
        """Add a function that is called with outcomes. Raises UsageError."""
        if state not in get_args(TaskEndedState):
            raise UsageError(f"@app.on({state!r}): must be one of {', '.join(get_args(TaskEndedState))}")
        if not callable(function) or made(function)[0] not in ("value", "awaited"):  # type: ignore[redundant-expr]
            raise UsageError(f"@app.on({state!r}): {function!r:.80} must be a function without a yield")
        self.listeners.setdefault(state, []).append(function)


def _manager(name: str, function: Callable[..., object]) -> tuple[str, Callable[..., Any]]:
    """Return whether a generator function is sync or async, and what makes its context manager."""
    if not callable(function) or made(function)[0] not in ("sync", "async"):  # type: ignore[redundant-expr]
        raise UsageError(f"@app.{name}: {function!r:.80} must be a generator function that yields once")
    return made(function)


NO_HOOKS: Final = Hooks()


def call_within(managers: Iterable[AbstractContextManager[object]], call: Callable[[], R]) -> R:
    """Call a function within context managers, the first outermost. An exception that one of them swallows is
    raised again: it must not look like success."""
    raised: BaseException | None = None
    with ExitStack() as stack:
        try:
            for manager in managers:
                stack.enter_context(manager)
            return call()
        except BaseException as error:
            raised = error
            raise
    raise _swallowed(raised)


async def await_within(managers: Iterable[Manager], call: Callable[[], Awaitable[R]]) -> R:
    """Call a function as `call_within` does, with sync and async context managers."""
    raised: BaseException | None = None
    async with AsyncExitStack() as stack:
        try:
            for manager in managers:
                if isinstance(manager, AbstractAsyncContextManager):
                    await stack.enter_async_context(manager)
                else:
                    stack.enter_context(manager)
            return await call()
        except BaseException as error:
            raised = error
            raise
    raise _swallowed(raised)


def _swallowed(raised: BaseException | None) -> BaseException:
    return RuntimeError("a hook ended before the call that it wraps") if raised is None else raised
