"""The context of a running handler: its task, attempt, deadline and worker.

Owns the Context and the variable that carries it. The worker sets it (see `running_context`), the user's
handler reads it. Imports nothing of streamq but its protocols: what a handler starts from here goes through
the `Home` of its type.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from streamq.context_protocols import AnyHome, Enqueues, Returns, Starts, StepsOf, Task

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Kind = type[T]


class Context:
    """One attempt, for its handler. Created for every attempt, so it computes nothing beforehand."""

    # Class attributes are the defaults: one context is created per attempt, and most of these never change.
    _follow_ups: list[object] | None = None
    _steps: StepsOf | Literal[True] | None = None  # True: they were made in a child process
    _told = False
    _cancelled = False
    _draining = False
    _ended = False
    _thread = 0

    def __init__(
        self, task: Task, max_attempts: int, deadline: float | None, worker: str, home: AnyHome | None = None
    ) -> None:
        self._task = task
        self._max_attempts = max_attempts
        self._deadline = deadline
        self._worker = worker
        self._home = home
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
    def generation(self) -> int:
        """How many runs of this task went before this one: see `continue_as_new`. 0 in the first."""
        return self._task.generation

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

    def enqueue(self, call: Enqueues[T]) -> T:
        """Enqueue a follow-up, made with `task_type.bind(...)`; return its handle.

        It exists from the moment that this task is completed, and only if it is: a failed attempt, or one
        that lost its lease, leaves none. Sends nothing now, and is the same in an `async def` handler.
        Raises what `enqueue` raises for the caller's mistakes.
        """
        return self.enqueue_many([call])[0]

    def enqueue_many(self, calls: Iterable[Enqueues[T]]) -> list[T]:
        """Enqueue follow-ups, as `enqueue` does; return their handles in order. Of all or none."""
        home, before = self._at_its_end("a follow-up was enqueued")
        return home.follow(self._task, before, calls)

    def spawn(self, *calls: Enqueues[object]) -> None:
        """Add children to this node of a flow, made with `task_type.bind(...)`: the nodes that wait for it
        wait for them too, and get the result of this one.

        They exist from the moment that this task is completed, and only if it is. Sends nothing now, and is
        the same in an `async def` handler. Raises UsageError in a task that is no node of a flow.
        """
        home, before = self._at_its_end("a child was spawned")
        home.spawn(self._task, before, calls)

    def continue_as_new(self, call: Returns[T]) -> T:
        """Let this task go on as a new run of the same task type: `return` what this returns.

        When the handler returns, the attempt is completed and the task starts anew with the arguments of
        `call`, made with `task_type.bind(...)`: its first attempt, without the failures and the memos of
        steps. It keeps its id, so that its handle gets the result of the last run and `cancel` reaches the
        present one; and its lane, priority, unique key and place in a flow. A failed attempt, or one that
        lost its lease, starts no new run. The call's delay, expiry, timeout, attempts and retention hold.
        Sends nothing now, and is the same in an `async def` handler. Raises InvalidOption for what does not
        hold, UsageError for a call of another task type or a second one in this attempt.
        """
        home, before = self._at_its_end("a new run was asked for")
        return home.go_on(self._task, before, call)

    def _at_its_end(self, what: str) -> tuple[AnyHome, list[object]]:
        """Return who takes what the completion of this attempt is to write, and what it has by now."""
        if self._home is None or self._ended:
            why = "after its handler had returned" if self._ended else "that belongs to no app"
            raise LookupError(f"{what} in an attempt {why}: nothing would send it")
        if self._follow_ups is None:
            self._follow_ups = []
        return self._home, self._follow_ups

    @overload
    async def step(
        self, name: str, function: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def step(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    async def step(
        self, name: str, function: Callable[..., Awaitable[R] | R], /, *args: object, **kwargs: object
    ) -> R:
        """Call a function once for this task, however often the task is tried; return its result.

        The result is stored under the name before this returns, and a later attempt gets it without a call.
        If the worker dies during the call, or before the result is stored, a later attempt calls again. The
        function may be async. Raises UsageError for a name that this attempt has used, PayloadError for a
        result that cannot be stored, and LeaseLost if the worker no longer holds the task.
        """
        return await self._of_steps().run(name, function, args, kwargs)

    def step_sync(self, name: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function once for this task, as `step` does, in a `def` handler."""
        return self._of_steps().run_sync(name, function, args, kwargs)

    async def sleep(self, duration: float | timedelta | str, name: str | None = None) -> None:
        """Go on with this task after a time (seconds, timedelta or "1d"), without a slot until then.

        Ends the attempt, which is not counted; the handler runs again from its top when the time is over,
        and passes this line. name: as of a step; default: which sleep of the attempt it is.
        """
        await self._of_steps().sleep(duration, name)

    def sleep_sync(self, duration: float | timedelta | str, name: str | None = None) -> None:
        """Go on after a time, as `sleep` does, in a `def` handler."""
        self._of_steps().sleep_sync(duration, name)

    @overload
    def resume(
        self, source: Callable[[Any], AsyncIterable[T] | Iterable[T]], *, key: Callable[[T], object],
        every: float | timedelta | str = 5.0, name: str | None = None,
    ) -> AsyncIterator[T]: ...  # fmt: skip
    @overload
    def resume(
        self, source: AsyncIterable[T] | Iterable[T], *,
        every: float | timedelta | str = 5.0, name: str | None = None,
    ) -> AsyncIterator[T]: ...  # fmt: skip

    def resume(
        self, source: Callable[[Any], AsyncIterable[T] | Iterable[T]] | AsyncIterable[T] | Iterable[T], *,
        key: Callable[[T], object] | None = None, every: float | timedelta | str = 5.0,
        name: str | None = None,
    ) -> AsyncIterator[T]:  # fmt: skip
        """Iterate over rows so that a later attempt goes on behind the last one that was finished.

        source: a function that takes the cursor (None at first) and returns the rows behind it, with `key`,
        which returns the cursor of a row, as JSON; or an iterable with the same rows each time, which are
        counted. The cursor is stored every so many seconds, when the attempt ends in any way but a killed
        process, and when the worker stops: then the attempt ends between two rows, uncounted. name: as of
        a step; default: which resume of the attempt it is.
        """
        return self._of_steps().resume(source, key, every, name, self._stops)

    @overload
    def resume_sync(
        self, source: Callable[[Any], Iterable[T]], *, key: Callable[[T], object],
        every: float | timedelta | str = 5.0, name: str | None = None,
    ) -> Iterator[T]: ...  # fmt: skip
    @overload
    def resume_sync(
        self, source: Iterable[T], *, every: float | timedelta | str = 5.0, name: str | None = None
    ) -> Iterator[T]: ...

    def resume_sync(
        self, source: Callable[[Any], Iterable[T]] | Iterable[T], *,
        key: Callable[[T], object] | None = None, every: float | timedelta | str = 5.0,
        name: str | None = None,
    ) -> Iterator[T]:  # fmt: skip
        """Iterate over rows, as `resume` does, in a `def` handler."""
        return self._of_steps().resume_sync(source, key, every, name, self._stops)

    def _stops(self) -> bool:
        return self._draining or self._cancelled

    @overload
    async def wait(self, signal: str, *, timeout: float | timedelta | str | None = None) -> Any: ...
    @overload
    async def wait(
        self, signal: str, kind: Kind[T], *, timeout: float | timedelta | str | None = None
    ) -> T: ...

    async def wait(
        self, signal: str, kind: object = Any, *, timeout: float | timedelta | str | None = None
    ) -> Any:
        """Wait for a signal, which `handle.signal(name, value)` gives this task; return its value.

        If none has come, the attempt ends, uncounted and without a slot, and the handler runs again from its
        top when one comes. Each call takes the next signal of the name, also one that came before. kind: the
        type of the value (default: as JSON). Raises SignalTimeout after `timeout` (seconds, timedelta or
        "7d").
        """
        return await self._of_steps().wait(signal, kind, timeout)

    @overload
    def wait_sync(self, signal: str, *, timeout: float | timedelta | str | None = None) -> Any: ...
    @overload
    def wait_sync(
        self, signal: str, kind: Kind[T], *, timeout: float | timedelta | str | None = None
    ) -> T: ...

    def wait_sync(
        self, signal: str, kind: object = Any, *, timeout: float | timedelta | str | None = None
    ) -> Any:
        """Wait for a signal, as `wait` does, in a `def` handler."""
        return self._of_steps().wait_sync(signal, kind, timeout)

    @overload
    async def run_flow(self, flow: Starts, name: str | None = None, *, returns: T) -> T: ...
    @overload
    async def run_flow(self, flow: Starts, name: str | None = None) -> Any: ...

    async def run_flow(self, flow: Starts, name: str | None = None, *, returns: object = None) -> Any:
        """Run a flow, made with `app.flow(...)`, as a part of this task; return its result.

        The first call starts it, in the shard of this task. Then the attempt ends, uncounted and without a
        slot, until the flow has ended; the handler runs again from its top and passes this line. The flow is
        cancelled if this task ends before it. A later attempt lets a flow go on that failed in an earlier
        one. name: as of a step; default: the flow's name. returns: the output of a node, `node.output`, whose
        result is wanted, with its type.

        Raises FlowFailed and FlowCancelled, and UsageError for the 17th flow in a flow.
        """
        return await self._of_steps().run_flow(flow, name, returns)

    @overload
    def run_flow_sync(self, flow: Starts, name: str | None = None, *, returns: T) -> T: ...
    @overload
    def run_flow_sync(self, flow: Starts, name: str | None = None) -> Any: ...

    def run_flow_sync(self, flow: Starts, name: str | None = None, *, returns: object = None) -> Any:
        """Run a flow as a part of this task, as `run_flow` does, in a `def` handler."""
        return self._of_steps().run_flow_sync(flow, name, returns)

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Tell those who watch the task how far it is: `done` of `total`, and a text of up to 500 characters.

        Waits for nothing and may be called often: at most ten a second are sent, the latest of each tenth.
        """
        self._at_home().progress(self._task, self._worker, done, total, text)

    def emit(self, value: object) -> None:
        """Tell those who watch the task a value, as JSON of at most 64 KiB.

        Waits for nothing. About the last thousand are kept, for an hour after the attempt. What must not be
        lost belongs into the result. Raises PayloadError.
        """
        self._at_home().emit(self._task, self._worker, value)

    def _at_home(self) -> AnyHome:
        if self._home is None:
            raise LookupError(
                "an event was sent in an attempt that belongs to no app: nothing would publish it"
            )
        self._told = True
        return self._home

    def _of_steps(self) -> StepsOf:
        if self._steps is None or self._steps is True:
            if self._home is None:
                raise LookupError(
                    "a step was called in an attempt that belongs to no app: nothing would store it"
                )
            self._steps = self._home.steps(self._task, self._worker)
        return self._steps

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
