"""StreamQ: what a program holds. Registers handlers, enqueues, and hands out handles.

Owns the public surface for producers. Connects to nothing before it is first used.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NamedTuple,
    NoReturn,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from streamq import calls, codec, convert, environment
from streamq.app import Handler, Registry, check_name, sized
from streamq.client import AsyncClients, Client
from streamq.dialogue import Place
from streamq.dialogue import place as placed
from streamq.environment import Source
from streamq.errors import (
    DurabilityUnknown,
    IdempotencyConflict,
    PayloadError,
    QueueFull,
    RateLimitExceeded,
)
from streamq.handle import TaskHandle
from streamq.model import (
    Accepted,
    Answer,
    BacklogFull,
    Conflict,
    Duplicate,
    IdempotencyKey,
    NewTask,
    Priority,
    RateLimited,
    TaskId,
    Unconfirmed,
)
from streamq.options import (
    CallOptions,
    Durability,
    Duration,
    Executor,
    RateLimit,
    TaskOptions,
    call_options,
    reject_unknown,
    seconds,
    task_options,
)
from streamq.shards import shard_of
from streamq.telemetry.traces import Tracer, Tracing
from streamq.transport import Address

if TYPE_CHECKING:
    from streamq.admin import Admin
    from streamq.inspector import Inspector

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")


class Policy(TypedDict, total=False):
    """What `@app.task(...)` takes; see TaskOptions for each."""

    max_attempts: int
    timeout: Duration | None
    backoff: Any
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    give_up_on: type[BaseException] | tuple[type[BaseException], ...]
    expires: Duration | None
    retention: Duration
    lease: Duration
    max_lost: int
    priority: Priority
    executor: Executor
    rate_limit: RateLimit | str | None
    max_backlog: int | None
    max_payload: int
    durability: Durability


class PerCall(TypedDict, total=False):
    """What `.options(...)` and `send` take: when, how urgent, where, and what differs from the policy."""

    delay: Duration | None
    at: datetime | None
    priority: Priority | None
    expires: Duration | None
    timeout: Duration | None
    max_attempts: int | None
    retention: Duration | None
    shard_key: str | None
    idempotency_key: str | None
    idempotency_window: Duration | None
    durability: Durability | None


class Route(NamedTuple):
    """Where a task goes if not to the next shard, and what it is to wait for."""

    shard_key: str | None
    durability: Durability


@dataclass(slots=True)  # not frozen, which would take three times as long to make
class Bound(Generic[R]):
    """A call of a task type that has not been sent: for `enqueue_many`. A plain call has no route."""

    handler: Handler
    task: NewTask
    route: Route | None = None


class TaskType(Generic[P, R, C]):
    """A registered handler. Calling it runs it here and now; `enqueue` sends it to a worker.

    `options(...)` answers a twin that sends with other settings, typed the same.
    """

    __slots__ = ("_app", "_handler", "_options")

    def __init__(self, app: StreamQ, handler: Handler, options: CallOptions | None = None) -> None:
        self._app = app
        self._handler = handler
        self._options = options

    @property
    def name(self) -> str:
        """The task type's name."""
        return self._handler.name

    @property
    def handler(self) -> Handler:
        """The function with its policy."""
        return self._handler

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        """Run the handler in this process, without the queue."""
        result: C = self._handler.function(*args, **kwargs)
        return result

    def options(self, **given: Unpack[PerCall]) -> TaskType[P, R, C]:
        """The same task type with settings for the calls made through it.

        delay or at: when it is due. priority, expires, timeout, max_attempts, retention, durability:
        otherwise than the policy says. shard_key: tasks with the same go to the same shard.
        idempotency_key: a name for one task, such as an order's number; within `idempotency_window` (24 h
        unless given, at most 30 days) the same name is answered with that task, from any process, and with
        IdempotencyConflict where task type or arguments differ. Raises InvalidOption.
        """
        return TaskType(self._app, self._handler, _per_call(given))

    def bind(self, *args: P.args, **kwargs: P.kwargs) -> Bound[R]:
        """The call as a value, checked and encoded, for `enqueue_many`."""
        return bound_to(self._handler, self._options, self._handler.payload(args, kwargs))

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Send one task. When it returns, the server has the task, exactly once.

        Raises InvalidArguments, PayloadError, RateLimitExceeded, QueueFull, IdempotencyConflict and
        RedisErrors; among these OutcomeUnknown where the server may have taken it, and DurabilityUnknown
        where it has, but not as durably as asked.
        """
        handle: TaskHandle[R] = self._app._enqueue_one(self.bind(*args, **kwargs))  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        return handle

    async def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """As `enqueue`; concurrent calls share round trips."""
        handle: TaskHandle[R] = await self._app._aenqueue_one(self.bind(*args, **kwargs))  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001
        return handle


def _per_call(given: Mapping[str, Any]) -> CallOptions:
    reject_unknown(given, PerCall.__annotations__, "options()")
    return call_options(**given)


_NO_OPTIONS = CallOptions()


def bound_to(handler: Handler, options: CallOptions | None, payload: bytes) -> Bound[Any]:
    """A call as a value, with what the policy and the call say of it."""
    task, policy = new_task(handler.options, options, payload), handler.options
    if options is None:
        if policy.durability == "master":
            return Bound(handler, task)
        return Bound(handler, task, Route(None, policy.durability))
    if options.idempotency_key is not None:
        digest = codec.digest(handler.name, payload)
        task = task._replace(key=IdempotencyKey(options.idempotency_key, digest, options.window_ms))
    route = Route(options.shard_key, options.durability or policy.durability)
    return Bound(handler, task, None if route == _PLAIN and task.key is None else route)


_PLAIN = Route(None, "master")
_THERE = (Accepted, Duplicate)
_new = tuple.__new__


def new_task(policy: TaskOptions, options: CallOptions | None, payload: bytes) -> NewTask:
    """A payload as a task, with what the policy and the call say of it."""
    if options is None:
        if policy.expires is None:
            return _new(NewTask, (payload, policy.priority, None, False, (), None))
        options = _NO_OPTIONS
    fields: list[tuple[str, bytes | str]] = []
    expires = options.expires if options.expires is not None else policy.expires
    if expires is not None:
        fields.append(("x", str(round(expires * 1000))))
    if options.overrides is not None:
        fields.append(("m", codec.encode_overrides(options.overrides)))
    due = options.at_ms if options.at_ms is not None else None
    if options.delay:
        due = max(1, round(options.delay * 1000))
    return NewTask(
        payload, options.priority or policy.priority, due, options.at_ms is not None, tuple(fields)
    )


class StreamQ:
    """An app: its task types, and the queue they are kept in.

    name: of the queue on the server; programs with the same name share it.
    url: redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded://, and their twins
        with valkey; else STREAMQ_URL, else localhost.
    shards: how many independent queues it is spread over, at most 256; a few for each master of a cluster.
        Another number takes effect with the deploy: producers use the new set, and workers serve the old
        one until it is empty.
    patience: seconds that an enqueue is tried while the server is away.
    tracing: OpenTelemetry spans for enqueue calls and attempts. "link" starts a trace for each attempt,
        linked to that of the enqueue call; "child" goes on with that one. Else what STREAMQ_TRACING says.

    Nothing connects before the first call. Safe to share between threads and event loops, and across
    a fork.
    """

    def __init__(
        self,
        name: str,
        url: str | None = None,
        *,
        shards: int = 1,
        patience: Duration = 5.0,
        tracing: Tracing | None = None,
    ) -> None:
        self.registry = Registry(name, shards)
        self._tracer = self.registry.tracer = _tracer(name, tracing)
        self.address = Address.parse(url or environment.URL.get())
        self.url_from: Source = "code" if url else environment.URL.source()
        waits = seconds(patience, "patience")
        self._client = Client(self.registry, self.address, patience=waits)
        self._asyncs = AsyncClients(self.registry, self.address, patience=waits)
        self._places = [Place(shard) for shard in range(self.registry.shards)]
        _APPS.add(self)

    @property
    def name(self) -> str:
        return self.registry.name

    def __repr__(self) -> str:
        return f"<StreamQ {self.name!r} at {self.address}>"

    # -- registering ---------------------------------------------------------------------------------

    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> TaskType[P, R, Awaitable[R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskType[P, R, R]: ...
    @overload
    def task(self, /, *, name: str | None = None, **policy: Unpack[Policy]) -> Decorator: ...

    def task(self, function: Any = None, /, *, name: str | None = None, **policy: Any) -> Any:
        """Register a handler: `@app.task` or `@app.task(max_attempts=4, timeout=30, ...)`.

        The type's name is the function's unless `name` is given. Raises InvalidOption and
        DuplicateTaskType, at import.
        """
        options = task_options(policy)

        def register(fn: Any) -> Any:
            handler = Handler(name or fn.__name__, fn, options, policy)
            self.registry.add(handler)
            return TaskType(self, handler)

        return register if function is None else register(function)

    # -- enqueueing ----------------------------------------------------------------------------------

    def enqueue_many(self, bound: Sequence[Bound[Any]]) -> list[TaskHandle[Any]]:
        """Send many tasks in few round trips; the handles come in their order.

        Where one is refused, the others are sent all the same: the error's `accepted` has a handle or
        None for each. A RedisError may leave a part sent.
        """
        places = [self._place(item) if item.route else self._next_place() for item in bound]
        answers: list[Answer | None] = [place.answer for place in places]
        for (task_type, shard, durability), numbers in _grouped(bound, places).items():
            tasks = [bound[n].task for n in numbers]
            if self._tracer is None:
                found = self._client.enqueue(task_type, shard, tasks, durability)
            else:
                with self._tracer.sending(task_type, len(tasks)) as (_, header):
                    carrying = [_carrying(task, header) for task in tasks]
                    found = self._client.enqueue(task_type, shard, carrying, durability)
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
        return self._handles(bound, places, answers)

    async def aenqueue_many(self, bound: Sequence[Bound[Any]]) -> list[TaskHandle[Any]]:
        """As `enqueue_many`."""
        client = self._asyncs.current()
        places = [await self._aplace(item) if item.route else self._next_place() for item in bound]
        answers: list[Answer | None] = [place.answer for place in places]
        for (task_type, shard, durability), numbers in _grouped(bound, places).items():
            tasks = [bound[n].task for n in numbers]
            if self._tracer is None:
                found = await client.enqueue(task_type, shard, tasks, durability)
            else:
                with self._tracer.sending(task_type, len(tasks)) as (_, header):
                    carrying = [_carrying(task, header) for task in tasks]
                    found = await client.enqueue(task_type, shard, carrying, durability)
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
        return self._handles(bound, places, answers)

    def send(
        self, task_type: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[PerCall]
    ) -> TaskHandle[Any]:
        """Send a task by the name of its type and its arguments by name, without the handler's code."""
        return self._enqueue_one(self.bound(task_type, arguments, **options))

    async def asend(
        self, task_type: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[PerCall]
    ) -> TaskHandle[Any]:
        """As `send`."""
        return await self._aenqueue_one(self.bound(task_type, arguments, **options))

    def bound(
        self, task_type: str, arguments: Mapping[str, Any] | None = None, **options: Unpack[PerCall]
    ) -> Bound[Any]:
        """A call by name as a value, for `enqueue_many`. Where this app has the handler, the arguments
        must fit it."""
        given: Mapping[str, Any] = {} if arguments is None else arguments
        if not isinstance(given, Mapping):
            raise PayloadError(
                f"send({task_type!r}, …): the arguments must be an object by name, not {type(given).__name__}"
            )
        per_call = _per_call(options) if options else None
        handler = self.registry.handlers.get(task_type)
        if handler is not None:
            return bound_to(handler, per_call, handler.payload((), given))
        handler = foreign(task_type)
        what = f"the arguments of task type {task_type!r}"
        payload = sized(convert.encode(dict(given), what=what), handler.options.max_payload, what)
        return bound_to(handler, per_call, payload)

    def _enqueue_one(self, bound: Bound[Any]) -> TaskHandle[Any]:
        if bound.route is not None:
            [handle] = self.enqueue_many([bound])
            return handle
        if self._tracer is None:
            return self._send_one(bound)
        with self._tracer.sending(bound.handler.name, 1) as (span, header):
            handle = self._send_one(replace(bound, task=_carrying(bound.task, header)))
            span.set_attribute("messaging.message.id", handle.id)
            return handle

    async def _aenqueue_one(self, bound: Bound[Any]) -> TaskHandle[Any]:
        if bound.route is not None:
            [handle] = await self.aenqueue_many([bound])
            return handle
        if self._tracer is None:
            return await self._asend_one(bound)
        with self._tracer.sending(bound.handler.name, 1) as (span, header):
            handle = await self._asend_one(replace(bound, task=_carrying(bound.task, header)))
            span.set_attribute("messaging.message.id", handle.id)
            return handle

    def _send_one(self, bound: Bound[Any]) -> TaskHandle[Any]:
        name, shard = bound.handler.name, self._client.next_shard()
        [answer] = self._client.enqueue(name, shard, [bound.task])
        return self._handle(bound.handler, shard, answer)

    async def _asend_one(self, bound: Bound[Any]) -> TaskHandle[Any]:
        name, shard = bound.handler.name, self._client.next_shard()
        [answer] = await self._asyncs.current().enqueue(name, shard, [bound.task])
        return self._handle(bound.handler, shard, answer)

    def _next_place(self) -> Place:
        return self._places[self._client.next_shard()]

    def _place(self, bound: Bound[Any]) -> Place:
        key = bound.task.key
        return self._unkeyed(bound) if key is None else self._client.hold(placed(self.registry, key))

    async def _aplace(self, bound: Bound[Any]) -> Place:
        key = bound.task.key
        if key is None:
            return self._unkeyed(bound)
        return await self._asyncs.current().hold(placed(self.registry, key))

    def _unkeyed(self, bound: Bound[Any]) -> Place:
        if bound.route is None or bound.route.shard_key is None:
            return self._next_place()
        return Place(shard_of(bound.route.shard_key, self.registry.shards))

    def _handle(self, handler: Handler, shard: int, answer: Answer) -> TaskHandle[Any]:
        if not isinstance(answer, _THERE):
            self._raise(handler.name, shard, answer, ())
        task = _new(TaskId, (handler.name, shard, answer.local))
        return TaskHandle(
            task,
            self.name,
            self._client,
            self._asyncs,
            handler.decode_result,
            duplicate=isinstance(answer, Duplicate),
        )

    def _handles(
        self, bound: Sequence[Bound[Any]], places: Sequence[Place], answers: Sequence[Answer | None]
    ) -> list[TaskHandle[Any]]:
        if all(isinstance(answer, _THERE) for answer in answers):
            # Nearly always: each has been accepted.
            return [
                self._handle(item.handler, place.shard, answer)
                for item, place, answer in zip(bound, places, answers, strict=True)
                if answer is not None
            ]
        triples = [
            (item.handler, place.shard, answer)
            for item, place, answer in zip(bound, places, answers, strict=True)
            if answer is not None
        ]
        handles = [
            self._handle(handler, shard, existing) if (existing := _existing(answer)) else None
            for handler, shard, answer in triples
        ]
        # What exists but is in doubt comes first: a refusal would say that all others are as was asked.
        for handler, shard, answer in sorted(triples, key=lambda one: not isinstance(one[2], Unconfirmed)):
            if not isinstance(answer, _THERE):
                self._raise(handler.name, shard, answer, handles)
        return [handle for handle in handles if handle is not None]

    def _raise(
        self, task_type: str, shard: int, answer: Refusal, accepted: Sequence[TaskHandle[Any] | None]
    ) -> NoReturn:
        """The error for a task that was not accepted, or not as was asked."""
        match answer:
            case Conflict(first):
                _conflict(task_type, shard, first, accepted)
            case Unconfirmed(local, why):
                _unconfirmed(TaskId(task_type, shard, local), why, accepted)
            case _:
                _refuse(task_type, answer, accepted)

    # -- tasks that exist ------------------------------------------------------------------------------

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """The handle of a task by its id. Asks nobody whether it exists. Raises InvalidTaskId."""
        task = TaskId.parse(task_id)
        handler = self.registry.handlers.get(task.type)
        decode = handler.decode_result if handler is not None else None
        return TaskHandle(task, self.name, self._client, self._asyncs, decode)

    @property
    def inspector(self) -> Inspector:
        """Questions about this app's queue: counts, tasks, dead letters, workers, the audit."""
        from streamq.inspector import Inspector  # noqa: PLC0415 - a producer does not pay for it

        return Inspector(self._client.transport, self.name, self.registry.shards)

    @property
    def admin(self) -> Admin:
        """An operator's writes: cancel, requeue and purge dead letters, repair what the audit finds."""
        from streamq.admin import Admin  # noqa: PLC0415 - a producer does not pay for it

        return Admin(self._client.transport, self.name, self.registry.shards)

    def connect(self) -> None:
        """Load the client library and ask the server whether it is there, now rather than at the first call.

        For programs that want their first call to be quick, or to fail at their start: RedisUnavailable,
        AuthenticationFailed, ServerTooOld.
        """
        self._client.transport.run(calls.ready())

    async def aconnect(self) -> None:
        """As `connect`, for the running event loop."""
        await self._asyncs.current().transport.run(calls.ready())

    def close(self) -> None:
        """Close the sync connections. The app can be used again; it then connects anew."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and the sync ones."""
        await self._asyncs.aclose()
        self._client.close()

    def _forget(self) -> None:
        self._client.forget()
        self._asyncs.forget()


class Decorator(Protocol):
    """What `@app.task(...)` with options is: takes an `async def` or a `def`."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> TaskType[P, R, Awaitable[R]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskType[P, R, R]: ...


@cache
def foreign(task_type: str) -> Handler:
    """A stand-in for the handler of a task type whose code is elsewhere."""
    handler = Handler(task_type, _elsewhere, TaskOptions())
    check_name(task_type)
    return handler


def _elsewhere(**_arguments: Any) -> Any:
    raise NotImplementedError("the handler of this task type is in another program")


def _tracer(app: str, tracing: Tracing | None) -> Tracer | None:
    given: Any = tracing or environment.TRACING.given()
    return Tracer(app, given) if given else None


def _carrying(task: NewTask, header: bytes) -> NewTask:
    return task._replace(fields=(*task.fields, ("t", header))) if header else task


Refusal = Conflict | RateLimited | BacklogFull | Unconfirmed
_Line = tuple[str, int, Durability]


def _grouped(bound: Sequence[Bound[Any]], places: Sequence[Place]) -> dict[_Line, list[int]]:
    """What goes out together: the numbers of the tasks that have no answer yet."""
    groups: dict[_Line, list[int]] = {}
    for n, (item, place) in enumerate(zip(bound, places, strict=True)):
        if place.answer is None:
            durability = item.route.durability if item.route else "master"
            groups.setdefault((item.handler.name, place.shard, durability), []).append(n)
    return groups


def _existing(answer: Answer) -> Accepted | Duplicate | None:
    """The task that an answer tells of; None where there is none."""
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
        f"the idempotency key of this {task_type!r} task was given to task {task} with another type or other "
        "arguments: a key names one task, use a new one",
        task_id=str(task),
        accepted=accepted,
    )


def _unconfirmed(task: TaskId, why: str, accepted: Sequence[object]) -> NoReturn:
    raise DurabilityUnknown(
        f"task {task} exists on the server and will run, but is not known to be as durable as asked: {why}. "
        "Enqueueing again makes a second task, unless it has an idempotency key",
        task_id=str(task),
        accepted=accepted,
    )


def _refuse(task_type: str, answer: RateLimited | BacklogFull, accepted: Sequence[object] = ()) -> NoReturn:
    if isinstance(answer, RateLimited):
        wait = answer.retry_after_ms / 1000
        raise RateLimitExceeded(
            f"the rate limit of task type {task_type!r} is used up: come again in {wait:g} s",
            retry_after=wait,
            accepted=accepted,
        )
    raise QueueFull(
        f"the backlog limit of task type {task_type!r} is reached: come again when workers have caught up",
        accepted=accepted,
    )


_APPS: weakref.WeakSet[StreamQ] = weakref.WeakSet()


def _after_fork() -> None:
    for app in _APPS:
        app._forget()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
