"""StreamQ: what a program holds. Registers handlers, enqueues, and hands out handles.

Owns the public surface for producers. Connects to nothing before it is first used.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    NoReturn,
    ParamSpec,
    TypeVar,
    Unpack,
    overload,
)

from streamq import blocking, calls, convert, environment
from streamq.app import Handler, Registry, sized
from streamq.client import AsyncClients, Client
from streamq.dialogue import Place
from streamq.dialogue import place as placed
from streamq.environment import Source
from streamq.errors import (
    InvalidArguments,
    PayloadError,
)
from streamq.handle import TaskHandle
from streamq.hooks import Enqueue, Hook, Hooks, await_within, call_within
from streamq.model import (
    OUTCOMES,
    Accepted,
    Answer,
    Duplicate,
    NewTask,
    TaskId,
    Unconfirmed,
)
from streamq.options import (
    Durability,
    Duration,
    PerCall,
    Policy,
    per_call,
    seconds,
    task_options,
)
from streamq.shards import shard_of
from streamq.telemetry.traces import Tracer, Tracing
from streamq.transport import Address

if TYPE_CHECKING:
    from streamq.admin import Admin, AsyncAdmin
    from streamq.idleness import Scope
    from streamq.inspector import AsyncInspector, Inspector


from streamq.queue.bound import Bound, bound_to, foreign
from streamq.queue.refusals import existing_of, refuse
from streamq.queue.tasktype import Decorator, TaskType

P = ParamSpec("P")
R = TypeVar("R")


_THERE = (Accepted, Duplicate)
_new = tuple.__new__


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
    imports: the modules that have task types of this app, such as ["shop.mails"]. A worker imports them; a
        program that only enqueues does not.
    prefix: what the names of all keys and channels begin with, such as "team1:" where an ACL on a shared
        server asks for it; else STREAMQ_PREFIX, else "streamq:".
    hooks: middleware around enqueue calls and handlers, and observers of attempts; the first is outermost.

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
        imports: Iterable[str] = (),
        prefix: str | None = None,
        hooks: Iterable[Hook] = (),
    ) -> None:
        self.url_from: Source = "code" if url else environment.URL.source()
        self.address: Address = Address.parse(url or environment.URL.get(), self.url_from, prefix=prefix)
        self.prefix_from: Source = environment.PREFIX.source() if prefix is None else "code"
        tracer = _tracer(name, tracing)
        self._hooks = Hooks((*(() if tracer is None else (tracer,)), *hooks))
        self.registry: Registry = Registry(name, shards, imports, self.address.namespace, self._hooks)
        self.registry.tracer = tracer
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

    if not TYPE_CHECKING:  # which would take every name for an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.elsewhere import missing  # noqa: PLC0415 - for a slip only

            missing("StreamQ", name)

    # -- registering ---------------------------------------------------------------------------------

    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskType[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def task(self, function: Callable[P, Awaitable[R]], /) -> TaskType[P, R, Awaitable[R]]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> TaskType[P, R, R]: ...
    @overload
    def task(self, /, *, name: str | None = None, **policy: Unpack[Policy]) -> Decorator: ...

    def task(self, function: object = None, /, *, name: str | None = None, **policy: object) -> object:
        """Register a handler: `@app.task` or `@app.task(max_attempts=4, timeout=30, ...)`.

        The type's name is the function's unless `name` is given. Raises InvalidOption and
        DuplicateTaskType, at import.
        """
        options = task_options(policy)

        def register(fn: Any) -> Any:
            name_of = getattr(fn, "__name__", "") if name is None else name
            handler = Handler(name_of, fn, options, policy)
            self.registry.add(handler)
            return TaskType(self, handler)

        return register if function is None else register(function)

    # -- enqueueing ----------------------------------------------------------------------------------

    def enqueue_many(self, bound: Iterable[Bound[R]]) -> list[TaskHandle[R]]:
        """Send many tasks in few round trips; the handles come in their order.

        Where one is refused, the others are sent all the same: the error's `accepted` has a handle or
        None for each. A RedisError may leave a part sent.
        """
        bound = self._checked(bound)
        places = [self._place(item) if item.route else self._next_place() for item in bound]
        answers: list[Answer | None] = [place.answer for place in places]
        for (task_type, shard, durability), numbers in _grouped(bound, places).items():
            tasks = [bound[n].task for n in numbers]
            if self._hooks.enqueue:
                found = self._enqueue_hooked(task_type, shard, tasks, durability)
            else:
                found = self._client.enqueue(task_type, shard, tasks, durability)
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
        return self._handles(bound, places, answers)

    async def aenqueue_many(self, bound: Iterable[Bound[R]]) -> list[TaskHandle[R]]:
        """As `enqueue_many`."""
        bound, client = self._checked(bound), self._asyncs.current()
        places = [await self._aplace(item) if item.route else self._next_place() for item in bound]
        answers: list[Answer | None] = [place.answer for place in places]
        for (task_type, shard, durability), numbers in _grouped(bound, places).items():
            tasks = [bound[n].task for n in numbers]
            if self._hooks.aenqueue:
                found = await self._aenqueue_hooked(task_type, shard, tasks, durability)
            else:
                found = await client.enqueue(task_type, shard, tasks, durability)
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
        return self._handles(bound, places, answers)

    def _checked(self, bound: Iterable[Bound[R]]) -> Sequence[Bound[R]]:
        """The calls as a list, each of a task type of this app, or by name."""
        listed = bound if isinstance(bound, list) else list(bound)
        if not set(map(type, listed)) <= {Bound}:
            raise InvalidArguments(
                "enqueue_many takes calls as task_type.bind(...) or app.bound(name, {...}) make them"
            )
        handlers = {id(item.handler): item.handler for item in listed}
        for handler in handlers.values():
            ours = self.registry.handlers.get(handler.name) is handler
            if not ours and handler.app not in ("", self.name):
                raise InvalidArguments(
                    f"task type {handler.name!r} is of app {handler.app!r}: the workers of {self.name!r} do "
                    "not know it. Send the call with its own app"
                )
        return listed

    def send(
        self, task_type: str, arguments: Mapping[str, object] | None = None, **options: Unpack[PerCall]
    ) -> TaskHandle[Any]:
        """Send a task by the name of its type and its arguments by name, without the handler's code."""
        return self._enqueue_one(self.bound(task_type, arguments, **options))

    async def asend(
        self, task_type: str, arguments: Mapping[str, object] | None = None, **options: Unpack[PerCall]
    ) -> TaskHandle[Any]:
        """As `send`."""
        return await self._aenqueue_one(self.bound(task_type, arguments, **options))

    def bound(
        self, task_type: str, arguments: Mapping[str, object] | None = None, **options: Unpack[PerCall]
    ) -> Bound[Any]:
        """A call by name as a value, for `enqueue_many`. Where this app has the handler, the arguments
        must fit it."""
        given: Mapping[str, object] = {} if arguments is None else arguments
        if not isinstance(given, Mapping):
            raise PayloadError(
                f"send({task_type!r}, …): the arguments must be an object by name, not {type(given).__name__}"
            )
        said = per_call(options) if options else None
        handler = self.registry.handlers.get(task_type)
        if handler is not None:
            return bound_to(handler, said, handler.payload_by_name(given))
        handler = foreign(task_type)
        what = f"the arguments of task type {task_type!r}"
        payload = sized(convert.encode(dict(given), what=what), handler.options.max_payload, what)
        bound = bound_to(handler, said, payload)
        if self.registry.pipeline is not None:  # a stand-in for a handler is of no app
            bound.task = bound.task._replace(payload=self.registry.pipeline.seal(payload))
        return bound

    def _enqueue_one(self, bound: Bound[R]) -> TaskHandle[R]:
        if bound.route is not None:
            [handle] = self.enqueue_many([bound])
            return handle
        return self._send_hooked(bound) if self._hooks.enqueue else self._send_one(bound)

    def _send_hooked(self, bound: Bound[R]) -> TaskHandle[R]:
        """Send one task within the hooks around the call."""
        call = Enqueue(self.name, bound.handler.name, [bound.task])

        def send() -> TaskHandle[R]:
            [task] = call.checked()
            handle = self._send_one(replace(bound, task=task))
            call.ids = (handle.id,)
            return handle

        return call_within((around(call) for around in self._hooks.enqueue), send)

    def _aenqueue_one(self, bound: Bound[R]) -> Coroutine[Any, Any, TaskHandle[R]]:
        plain = bound.route is None and not self._hooks.aenqueue
        return self._asend_one(bound) if plain else self._asend_apart(bound)

    async def _asend_apart(self, bound: Bound[R]) -> TaskHandle[R]:
        if bound.route is not None:
            [handle] = await self.aenqueue_many([bound])
            return handle
        call = Enqueue(self.name, bound.handler.name, [bound.task])

        async def send() -> TaskHandle[R]:
            [task] = call.checked()
            handle = await self._asend_one(replace(bound, task=task))
            call.ids = (handle.id,)
            return handle

        return await await_within((around(call) for around in self._hooks.aenqueue), send)

    def _enqueue_hooked(
        self, task_type: str, shard: int, tasks: list[NewTask], durability: Durability
    ) -> list[Answer]:
        """Send tasks of one type within the hooks around the call."""
        call = Enqueue(self.name, task_type, tasks)

        def send() -> list[Answer]:
            answers = self._client.enqueue(task_type, shard, call.checked(), durability)
            call.ids = _ids(task_type, shard, answers)
            return answers

        return call_within((around(call) for around in self._hooks.enqueue), send)

    async def _aenqueue_hooked(
        self, task_type: str, shard: int, tasks: list[NewTask], durability: Durability
    ) -> list[Answer]:
        """As `_enqueue_hooked`."""
        call = Enqueue(self.name, task_type, tasks)

        async def send() -> list[Answer]:
            client = self._asyncs.current()
            answers = await client.enqueue(task_type, shard, call.checked(), durability)
            call.ids = _ids(task_type, shard, answers)
            return answers

        return await await_within((around(call) for around in self._hooks.aenqueue), send)

    def _send_one(self, bound: Bound[R]) -> TaskHandle[R]:
        name, shard = bound.handler.name, self._client.next_shard()
        [answer] = self._client.enqueue(name, shard, [bound.task])
        return self._handle(bound.handler, shard, answer)

    async def _asend_one(self, bound: Bound[R]) -> TaskHandle[R]:
        name, shard = bound.handler.name, self._client.next_shard()
        [answer] = await self._asyncs.current().enqueue(name, shard, [bound.task])
        return self._handle(bound.handler, shard, answer)

    def _next_place(self) -> Place:
        return self._places[self._client.next_shard()]

    def _place(self, bound: Bound[object]) -> Place:
        key = bound.task.key
        return self._unkeyed(bound) if key is None else self._client.hold(placed(self.registry, key))

    async def _aplace(self, bound: Bound[object]) -> Place:
        key = bound.task.key
        if key is None:
            return self._unkeyed(bound)
        return await self._asyncs.current().hold(placed(self.registry, key))

    def _unkeyed(self, bound: Bound[object]) -> Place:
        if bound.route is None or bound.route.shard_key is None:
            return self._next_place()
        return Place(shard_of(bound.route.shard_key, self.registry.shards))

    def _handle(self, handler: Handler, shard: int, answer: Answer) -> TaskHandle[Any]:
        if not isinstance(answer, _THERE):
            refuse(handler.name, shard, answer, ())
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
        self, bound: Sequence[Bound[R]], places: Sequence[Place], answers: Sequence[Answer | None]
    ) -> list[TaskHandle[R]]:
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
            self._handle(handler, shard, existing) if (existing := existing_of(answer)) else None
            for handler, shard, answer in triples
        ]
        # What exists but is in doubt comes first: a refusal would say that all others are as was asked.
        for handler, shard, answer in sorted(triples, key=lambda one: not isinstance(one[2], Unconfirmed)):
            if not isinstance(answer, _THERE):
                refuse(handler.name, shard, answer, handles)
        return [handle for handle in handles if handle is not None]

    # -- tasks that exist ------------------------------------------------------------------------------

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """The handle of a task by its id. Asks nobody whether it exists. Raises InvalidTaskId."""
        task = TaskId.parse(task_id)
        handler = self.registry.handlers.get(task.type)
        decode = handler.decode_result if handler is not None else None
        return TaskHandle(task, self.name, self._client, self._asyncs, decode)

    @cached_property  # one object, so that a test can patch what a program uses
    def inspector(self) -> Inspector:
        """Questions about this app's queue: counts, tasks, dead letters, workers, the audit."""
        from streamq.inspector import Inspector  # noqa: PLC0415 - a producer does not pay for it

        return Inspector(self._client.transport, self.name, self.registry.shards)

    @cached_property
    def ainspector(self) -> AsyncInspector:
        """As `inspector`, for event loops: each question is awaited."""
        from streamq.inspector import AsyncInspector  # noqa: PLC0415 - as above

        return AsyncInspector(lambda: self._asyncs.current().transport, self.name, self.registry.shards)

    @cached_property
    def admin(self) -> Admin:
        """An operator's writes: cancel, requeue and purge dead letters, repair what the audit finds."""
        from streamq.admin import Admin  # noqa: PLC0415 - a producer does not pay for it

        return Admin(self._client.transport, self.name, self.registry.shards)

    @cached_property
    def aadmin(self) -> AsyncAdmin:
        """As `admin`, for event loops: each act is awaited."""
        from streamq.admin import AsyncAdmin  # noqa: PLC0415 - as above

        return AsyncAdmin(lambda: self._asyncs.current().transport, self.name, self.registry.shards)

    def idle(self, types: str | Iterable[str] | None = None, *, scheduled: bool = False) -> bool:
        """Return whether nothing is left to do: nothing is ready, nothing runs, and nothing is due.

        types: only these task types. scheduled: nothing may be due later either, retries among them.
        """
        from streamq import idleness  # noqa: PLC0415 - a producer does not pay for it

        blocking.refuse("app.idle()", "await app.aidle()")
        return self._client.hold(idleness.idle(self._scope(types, scheduled)))

    async def aidle(self, types: str | Iterable[str] | None = None, *, scheduled: bool = False) -> bool:
        """As `idle`."""
        from streamq import idleness  # noqa: PLC0415

        return await self._asyncs.current().hold(idleness.idle(self._scope(types, scheduled)))

    def wait_idle(
        self,
        timeout: Duration | None = None,
        *,
        types: str | Iterable[str] | None = None,
        scheduled: bool = False,
    ) -> bool:
        """Wait until the queue is `idle`, at most `timeout` (None: for ever); return whether it is."""
        from streamq import idleness  # noqa: PLC0415

        blocking.refuse("app.wait_idle()", "await app.await_idle()")
        return idleness.wait_idle(self._client, self._scope(types, scheduled), timeout)

    async def await_idle(
        self,
        timeout: Duration | None = None,
        *,
        types: str | Iterable[str] | None = None,
        scheduled: bool = False,
    ) -> bool:
        """As `wait_idle`."""
        from streamq import idleness  # noqa: PLC0415

        return await idleness.await_idle(self._asyncs.current(), self._scope(types, scheduled), timeout)

    def _scope(self, types: str | Iterable[str] | None, scheduled: bool) -> Scope:
        from streamq import idleness  # noqa: PLC0415

        return idleness.scope(self.name, self.registry.shards, types, scheduled=scheduled)

    def connect(self) -> None:
        """Load the client library and ask the server whether it is there, now rather than at the first call.

        For programs that want their first call to be quick, or to fail at their start: RedisUnavailable,
        AuthenticationFailed, ServerTooOld.
        """
        blocking.refuse("app.connect()", "await app.aconnect()")
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


def _tracer(app: str, tracing: Tracing | None) -> Tracer | None:
    given: Any = tracing or environment.TRACING.given()
    return Tracer(app, given, OUTCOMES) if given else None


def _ids(task_type: str, shard: int, answers: Sequence[Answer]) -> tuple[str, ...]:
    """The id of each task that is there, '' for the others."""
    return tuple(
        str(TaskId(task_type, shard, answer.local)) if isinstance(answer, _THERE) else ""
        for answer in answers
    )


_Line = tuple[str, int, Durability]


def _grouped(bound: Sequence[Bound[object]], places: Sequence[Place]) -> dict[_Line, list[int]]:
    """What goes out together: the numbers of the tasks that have no answer yet."""
    groups: dict[_Line, list[int]] = {}
    for n, (item, place) in enumerate(zip(bound, places, strict=True)):
        if place.answer is None:
            durability = item.route.durability if item.route else "master"
            groups.setdefault((item.handler.name, place.shard, durability), []).append(n)
    return groups


_APPS: weakref.WeakSet[StreamQ] = weakref.WeakSet()


def _after_fork() -> None:
    for app in _APPS:
        app._forget()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001


os.register_at_fork(after_in_child=_after_fork)
