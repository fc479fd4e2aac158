"""A registered handler in a program: `enqueue`, `options`, `bind`, typed by its signature.

Owns the public interface of a task type. Must not send by itself: the enqueuer of its app does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    Unpack,
    overload,
)

from streamq.app.binding import bound_to, bound_to_outputs
from streamq.app.bound_task import Bound, lock_of
from streamq.app.handle import TaskHandle
from streamq.errors import InvalidOption
from streamq.item import Item
from streamq.model.output import NamesOutputs
from streamq.options.call import CallOptions, per_call
from streamq.registry.handler import Handler
from streamq.registry.redefinition import redefined

if TYPE_CHECKING:
    from streamq.options.typed import PerCall
    from streamq.registry.upcasting import MemoUpcaster, Upcaster, ValueUpcaster

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., object])
A = TypeVar("A")
C_co = TypeVar("C_co", covariant=True)
Coro: TypeAlias = Coroutine[Any, Any, R]
"""What an `async def` returns."""


class Sends(Protocol):
    """Sends calls: the enqueuer of an app."""

    def enqueue(self, bound: Bound[R], /) -> TaskHandle[R]: ...
    def aenqueue(self, bound: Bound[R], /) -> Coroutine[object, None, TaskHandle[R]]: ...


class TaskType(Generic[P, R, C_co]):
    """A registered handler. Calling it runs the function in this process; `enqueue` sends a task to a worker.

    `options(...)` returns a copy that sends with other settings, with the same types.
    """

    __slots__ = ("__dict__", "_enqueuer", "_handler", "_options")  # a dict, so that tests can patch methods

    def __init__(self, enqueuer: Sends, handler: Handler, options: CallOptions | None = None) -> None:
        self._enqueuer = enqueuer
        self._handler = handler
        self._options = options

    def __repr__(self) -> str:
        return f"<TaskType {self.name!r} of app {self._handler.app!r}>"

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing("TaskType", name)

    @property
    def __wrapped__(self) -> Callable[P, C_co]:
        """The function, so that tools find its signature and its docstring."""
        return self._handler.function

    @property
    def name(self) -> str:
        """The task type's name."""
        return self._handler.name

    @property
    def handler(self) -> Handler:
        """The function with its policy."""
        return self._handler

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C_co:
        """Run the handler in this process, without the queue."""
        self._handler.check_given(kwargs, len(args))
        result: C_co = self._handler.function(*args, **kwargs)
        return result

    def options(self, **given: Unpack[PerCall]) -> TaskType[P, R, C_co]:
        """Return the same task type with options for the calls made through it.

        delay or at: when the task is due. priority, expires, timeout, max_attempts, retention, durability:
        instead of the policy's. shard_key: tasks with the same key go to the same shard. idempotency_key: a
        name for one task, such as an order number; within `idempotency_window` (default 24 h, at most 30
        days) a second call with the same key returns that task, from any process, and raises
        IdempotencyConflict if task type or arguments differ. unique: a key that one task holds at a time;
        debounce, max_wait, throttle and trailing set how. pool: the workers that are to run it. Raises
        InvalidOption.
        """
        options = per_call(given)
        if options.pool is not None:
            self._handler.in_pool(options.pool)
        lock_of(self._handler, options)  # a rule that cannot be is told here, not with the first call
        return TaskType(self._enqueuer, self._handler, options)

    def upcast(self, version: int, /) -> Callable[[Upcaster], Upcaster]:
        """Register the function that makes arguments of `version` into those of the next one: it takes and
        returns them by name, as JSON data. Where a version has none, its arguments fit the next as they are.
        Raises InvalidOption."""
        return self._upcasts("upcast", version, self._handler.upcasters)

    def upcast_result(self, version: int, /) -> Callable[[ValueUpcaster], ValueUpcaster]:
        """Register the function that makes results of `version`, as JSON data, into those of the next one,
        for programs that read them. Otherwise as `upcast`."""
        return self._upcasts("upcast_result", version, self._handler.result_upcasters)

    def upcast_memo(self, version: int, /) -> Callable[[MemoUpcaster], MemoUpcaster]:
        """Register the function that makes what a step has stored, given its name and the JSON data, into
        what the next version stores. Otherwise as `upcast`."""
        return self._upcasts("upcast_memo", version, self._handler.memo_upcasters)

    def _upcasts(self, what: str, version: int, known: dict[int, F]) -> Callable[[F], F]:
        newest = self._handler.options.version
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version < newest:  # type: ignore[redundant-expr]
            raise InvalidOption(
                f"{what}({version!r:.40}) of task type {self.name!r}: must be a version from 1 to before "
                f"version={newest} of @app.task"
            )

        def register(function: F) -> F:
            before = known.get(version)
            if before is not None and not redefined(function, before, again=True):
                raise InvalidOption(
                    f"{what}({version}) of task type {self.name!r}: there is one already, "
                    f"{getattr(before, '__qualname__', before)}"
                )
            known[version] = function
            return function

        return register

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """Return the call as a value, checked and encoded, for `enqueue_many` and for flows, where an
        argument may be the output of a node."""
        try:
            payload = self._handler.payload(args, kwargs)
        except NamesOutputs as named:
            return bound_to_outputs(self._handler, self._options, named)
        return bound_to(self._handler, self._options, payload)

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send one task. When this returns, the server has the task, exactly once.

        Raises InvalidArguments, PayloadError, RateLimitExceeded, QueueFull, IdempotencyConflict,
        UniqueConflict and RedisErrors; of these OutcomeUnknown if the server may have accepted the task, and
        DurabilityUnknown if it has, but the task may be less durable than asked.
        """
        return self._enqueuer.enqueue(self.bind(*args, **kwargs))

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send one task, as `enqueue` does; concurrent calls share round trips."""
        return await self._enqueuer.aenqueue(self.bind(*args, **kwargs))


AnyTaskType: TypeAlias = TaskType[..., Any, Any]


class Decorator(Protocol):
    """The type of `@app.task(...)` with options: takes an `async def` or a `def`. The handler of a batch
    takes a list of items; its tasks have one argument, the item."""

    @overload
    def __call__(
        self, function: Callable[[list[Item[A]]], Coro[None]], /
    ) -> TaskType[[A], None, Coro[None]]: ...
    @overload
    def __call__(
        self, function: Callable[[list[Item[A]]], Coro[list[R] | None]], /
    ) -> TaskType[[A], R, Coro[R]]: ...
    @overload
    def __call__(self, function: Callable[[list[Item[A]]], None], /) -> TaskType[[A], None, None]: ...
    @overload
    def __call__(self, function: Callable[[list[Item[A]]], list[R] | None], /) -> TaskType[[A], R, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coro[R]], /) -> TaskType[P, R, Coro[R]]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> TaskType[P, R, Awaitable[R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskType[P, R, R]: ...
