"""StreamQ, the app object of a program: registers handlers, enqueues tasks and returns handles.

Owns the public interface for producers. Must not connect before its first call.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, Unpack

from streamq import blocking, environment
from streamq.app.binding import bound_to
from streamq.app.bound_task import Bound, remote_handler
from streamq.app.context_home import ContextHome
from streamq.app.enqueuer import Enqueuer
from streamq.app.handle import TaskHandle
from streamq.app.hook_decorators import HookDecorators
from streamq.app.keyed_task import KeyedTask
from streamq.app.queue_access import QueueAccess
from streamq.app.registrar import Registrar
from streamq.app.task_set import TaskSet
from streamq.app.task_type import AnyTaskType, TaskType
from streamq.client.loop_clients import AsyncClients
from streamq.client.sync_client import Client
from streamq.convert.encoding import encode
from streamq.environment import Source
from streamq.errors import InvalidOption, PayloadError
from streamq.forking import after_fork
from streamq.hooks import Hook, Hooks
from streamq.model.task import TaskId
from streamq.namespace import with_blobs, with_ring
from streamq.options.call import per_call
from streamq.options.checks import Duration, seconds
from streamq.payloads.compression import Compression
from streamq.payloads.pipeline import pipeline_for
from streamq.payloads.stage import About
from streamq.registry.handler import Handler, sized
from streamq.registry.registry import Registry
from streamq.resources.lifespan import Lifespan
from streamq.telemetry.traces import Tracer, Tracing
from streamq.transport.address import Address

if TYPE_CHECKING:
    from streamq.app.flow_graph import FlowGraph
    from streamq.app.flow_handle import FlowHandle
    from streamq.options.typed import PerCall
    from streamq.payloads.blob_store import Blobs, BlobStore
    from streamq.payloads.keyring import KeyRing
    from streamq.worker.worker import Worker

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _naming_ours(init: Callable[P, None]) -> Callable[P, None]:
    """Let it raise InvalidOption for an argument that another queue's class has, with our word for it."""
    known = {"name", "url", *(getattr(init, "__kwdefaults__", None) or {})}

    @wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        if unknown := kwargs.keys() - known:
            from streamq.migration_hints import setting_hint  # noqa: PLC0415 - for a mistake only

            if (hint := setting_hint(unknown)) is not None:
                raise InvalidOption(hint)
        init(*args, **kwargs)

    return checked


class StreamQ(Registrar, HookDecorators, QueueAccess):
    """An app: its task types, and its queue on the server.

    name: of the queue on the server; programs with the same name share it.
    url: redis://, rediss://, redis+sentinel://, redis+cluster://, unix:// or embedded://, or the same with
        valkey; default: STREAMQ_URL, else localhost. shards: the number of independent queues that the app is
        spread over, at most 256; a few for each master of
        a cluster. A new number takes effect with the deployment: producers use the new set, and workers serve
        the old one until it is empty. patience: seconds to try an enqueue call while the server is
        unreachable. tracing: OpenTelemetry spans for enqueue calls and attempts. "link" starts a trace for
        each attempt, linked
        to that of the enqueue call; "child" continues that trace. Default: STREAMQ_TRACING.
    imports: the modules that define task types of this app, such as ["shop.mails"]. A worker imports them; a
        program that only enqueues does not.
    prefix: the start of the names of all keys and channels, such as "team1:" if an ACL on a shared server
        requires it; default: STREAMQ_PREFIX, else "streamq:".
    hooks: middleware around enqueue calls and handlers, and observers of attempts; the first is outermost.
    compression: "zlib", or "zstd" (the extra `zstd`; Python 3.14 has it), for what is above 1 KiB.
    keys: seals arguments, results, errors, memos and events; default: the ring of STREAMQ_KEYS, if that is
        set. See `KeyRing`.
    blobs: keeps arguments and results above 256 KiB in a store outside of Redis; a store, `Blobs(store,
        over=...)`, or a URL as "file:///var/lib/shop/blobs"; default: STREAMQ_BLOBS, if that is set.

    Nothing connects before the first call. Safe to share between threads and event loops, and across a fork.
    """

    @_naming_ours
    def __init__(  # noqa: PLR0913 - one for each setting
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
        compression: Compression | None = None,
        keys: KeyRing | None = None,
        blobs: Blobs | BlobStore | str | None = None,
    ) -> None:
        self.url_from: Source = "code" if url else environment.URL.source()
        self.address: Address = Address.parse(url or environment.URL.get(), self.url_from, prefix=prefix)
        self.prefix_from: Source = environment.PREFIX.source() if prefix is None else "code"
        tracer = _tracer(name, tracing)
        chain = Hooks((*(() if tracer is None else (tracer,)), *hooks))
        self.registry: Registry = Registry(name, shards, imports, self.address.namespace, chain)
        self.registry.tracer = tracer
        ring = None if keys is None and environment.KEYS.explicit() is None else _ring(keys)
        self.registry.name = with_ring(self.registry.name, ring)
        if blobs is not None or environment.BLOBS.explicit() is not None:
            self.registry.blobs = _blobs(blobs)
            self.registry.name = with_blobs(self.registry.name, self.registry.blobs)
        self.registry.pipeline = pipeline_for(compression, sealed=ring is not None)
        self._patience = seconds(patience, "patience")
        self._client = Client(self.registry, self.address, patience=self._patience)
        self._asyncs = AsyncClients(self.registry, self.address, patience=self._patience)
        self._enqueuer = Enqueuer(self.registry, self._client, self._asyncs)
        self.registry.home_of_contexts = ContextHome(self.registry, self._enqueuer)
        _APPS.add(self)

    @property
    def name(self) -> str:
        return self.registry.name

    def __repr__(self) -> str:
        return f"<StreamQ {self.name!r} at {self.address}>"

    if not TYPE_CHECKING:  # type checkers would accept every name as an attribute

        def __getattr__(self, name: str) -> NoReturn:
            from streamq.migration_hints import missing  # noqa: PLC0415 - only for a misspelt name

            missing("StreamQ", name)

    # -- registering ---------------------------------------------------------------------------------

    def _register(self, handler: Handler) -> AnyTaskType:
        self.registry.add(handler)
        return TaskType(self._enqueuer, handler)

    def include(self, tasks: TaskSet, /, *, prefix: str = "") -> None:
        """Register the task types of a set, their names behind `prefix`, such as "mail.". Raises UsageError
        if another app has included it, and DuplicateTaskType."""
        tasks._include(self.registry, self._enqueuer, prefix)  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001

    def lifespan(
        self,
        function: Callable[[StreamQ], AsyncIterator[T]] | Callable[[StreamQ], AbstractAsyncContextManager[T]],
        /,
    ) -> Lifespan[T]:
        """Declare what each worker process opens at its start and closes at its end: an `async def` that
        takes the app and yields once. Handlers get what it yields with `Depends(lifespan)`, or as
        `get_context().state`. Raises UsageError."""
        found: Lifespan[T] = Lifespan(self, function)
        self.registry.declare(found)
        return found

    # -- enqueueing ----------------------------------------------------------------------------------

    def enqueue_many(self, bound: Iterable[Bound[R]]) -> list[TaskHandle[R]]:
        """Send many tasks in few round trips; return their handles in order.

        If one is refused, the others are sent nevertheless: the error's `accepted` has a handle or None for
        each. After a RedisError a part of them may have been sent.
        """
        return self._enqueuer.enqueue_many(bound)

    async def aenqueue_many(self, bound: Iterable[Bound[R]]) -> list[TaskHandle[R]]:
        """Send many tasks, as `enqueue_many` does, from an event loop."""
        return await self._enqueuer.aenqueue_many(bound)

    def send(
        self, task_type: str, arguments: Mapping[str, object] | None = None, **options: Unpack[PerCall]
    ) -> TaskHandle[Any]:
        """Send a task by the name of its type and its arguments by name, without the handler's code."""
        return self._enqueuer.enqueue(self.bound(task_type, arguments, **options))

    async def asend(
        self, task_type: str, arguments: Mapping[str, object] | None = None, **options: Unpack[PerCall]
    ) -> TaskHandle[Any]:
        """Send a task, as `send` does, from an event loop."""
        return await self._enqueuer.aenqueue(self.bound(task_type, arguments, **options))

    def bound(
        self, task_type: str, arguments: Mapping[str, object] | None = None, **options: Unpack[PerCall]
    ) -> Bound[Any]:
        """Return a call by name as a value, for `enqueue_many`. If this app has the handler, the arguments
        must match its signature."""
        given: Mapping[str, object] = {} if arguments is None else arguments
        if not isinstance(given, Mapping):
            raise PayloadError(
                f"send({task_type!r}, …): the arguments must be a mapping by name, not {type(given).__name__}"
            )
        call_options = per_call(options) if options else None
        handler = self.registry.find(task_type)
        if handler is not None:
            return bound_to(handler, call_options, handler.payload_by_name(given))
        handler = remote_handler(task_type)
        what = f"the arguments of task type {task_type!r}"
        payload = sized(encode(dict(given), what=what), handler.options.max_payload, what)
        bound = bound_to(handler, call_options, payload, self.registry.name)
        if self.registry.pipeline is not None:  # the placeholder of a handler belongs to no app
            stored = self.registry.pipeline.seal(payload, About(self.registry.name, task_type, "payload"))
            bound.task = bound.task._replace(payload=stored)
        return bound

    # -- tasks that exist ------------------------------------------------------------------------------

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """Return the handle of a task by its id, without checking that it exists. Raises InvalidTaskId."""
        task = TaskId.parse(task_id)
        handler = self.registry.find(task.type)
        decode = handler.decode_result if handler is not None else None
        pipeline = self.registry.pipeline
        return TaskHandle(task, self.name, self._client, self._asyncs, decode, pipeline=pipeline)

    def find(self, task_type: str, *, key: str) -> KeyedTask:
        """Return the task that has an idempotency key, or will have it: no task need exist yet. For a program
        that knows the key before another has enqueued the task."""
        return KeyedTask(self.registry, self._client, self._asyncs, self.handle, task_type, key)

    def flow(self, name: str, *, fail_fast: bool = False) -> FlowGraph:
        """Return a new flow to declare: add its nodes, then start it. fail_fast: if a node fails, tasks of
        the flow that run are cancelled too; else they end by themselves."""
        from streamq.app.flow_graph import FlowGraph  # noqa: PLC0415 - most programs have no flows

        return FlowGraph(self.registry, self._enqueuer, name, fail_fast=fail_fast)

    def flow_handle(self, flow_id: str) -> FlowHandle:
        """Return the handle of a flow by its id, without checking that it exists. Raises UnknownFlow for what
        is no id."""
        from streamq.app.flow_handle import FlowHandle  # noqa: PLC0415 - as above
        from streamq.flows.flow_id import FlowId  # noqa: PLC0415

        return FlowHandle(FlowId.parse(flow_id), self.registry, self._enqueuer)

    def connect(self) -> None:
        """Import the client library and connect to the server now, rather than at the first call.

        For programs whose first call should be fast, or that should fail at their start. Raises
        RedisUnavailable, AuthenticationFailed, ServerTooOld.
        """
        from streamq.calls.question import ready  # noqa: PLC0415 - a producer does not pay for it

        blocking.refuse("app.connect()", "await app.aconnect()")
        self._client.transport.run(ready())

    async def aconnect(self) -> None:
        """Connect, as `connect` does, from the running event loop."""
        from streamq.calls.question import ready  # noqa: PLC0415 - as above

        await self._asyncs.current().transport.run(ready())

    def run_worker(
        self,
        *,
        concurrency: int = 100,
        types: Iterable[str] | None = None,
        drain_timeout: Duration = 30.0,
        lifespan_timeout: Duration = 10.0,
        process_slots: int | None = None,
        queues: Sequence[str] | None = None,
        pools: Sequence[str] = ("default",),
        resources: Mapping[str, int] | None = None,
    ) -> AbstractAsyncContextManager[Worker]:
        """Run a worker in this event loop: `async with app.run_worker():`. It takes tasks when the block
        begins and has drained when the block has ended. It installs no signal handlers.

        The options are those of `streamq worker`. Raises what the worker fails with at its start.
        """
        from streamq.options.service import WorkerOptions  # noqa: PLC0415 - a producer does not pay for it
        from streamq.worker.embedded_worker import run_worker  # noqa: PLC0415 - as above

        options = WorkerOptions(
            concurrency=concurrency,
            types=types if types is None or isinstance(types, str) else tuple(types),  # type: ignore[arg-type]
            drain_timeout=drain_timeout,
            lifespan_timeout=lifespan_timeout,
            process_slots=process_slots,
            queues=queues,
            pools=pools,
            resources=resources or {},
        )
        return run_worker(self, options)

    def close(self) -> None:
        """Close the sync connections. The app can be used again, and then connects again."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections of the running event loop, and the sync ones."""
        await self._asyncs.aclose()
        self._client.close()

    def _move_to(self, address: Address) -> None:
        """Use another server from now on, with new connections: for `streamq.testing`."""
        self._client.close()
        self.address = address
        self.registry.forget_server()
        self.registry.name = address.namespace.app(str(self.registry.name))
        self._client = Client(self.registry, address, patience=self._patience)
        self._asyncs = AsyncClients(self.registry, address, patience=self._patience)
        self._enqueuer.use(self._client, self._asyncs)
        self._forget_access()

    def _forget(self) -> None:
        self._client.forget()
        self._asyncs.forget()


def _ring(keys: KeyRing | None) -> KeyRing | None:
    """Return the key ring of the code, or else that of the environment. Raises InvalidOption."""
    from streamq.payloads.keyring import KeyRing  # noqa: PLC0415 - few programs have one

    ring = KeyRing.from_environment() if keys is None else keys
    if not isinstance(ring, KeyRing | None):
        raise InvalidOption(f"keys={ring!r:.80}: must be a KeyRing")
    return ring


def _blobs(given: Blobs | BlobStore | str | None) -> Blobs | None:
    from streamq.blobs.opening import blobs_from  # noqa: PLC0415 - few programs have them

    return blobs_from(given)


def _tracer(app: str, tracing: Tracing | None) -> Tracer | None:
    mode: Any = tracing or environment.TRACING.explicit()
    if not mode:
        return None
    from streamq.model.outcome import OUTCOMES  # noqa: PLC0415 - of a worker

    return Tracer(app, mode, OUTCOMES)


_APPS: weakref.WeakSet[StreamQ] = weakref.WeakSet()


def _after_fork() -> None:
    for app in _APPS:
        app._forget()  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001


after_fork(_after_fork)
