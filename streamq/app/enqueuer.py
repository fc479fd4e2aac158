"""Sends the calls of one app, from plain code and from event loops: one, or many in few round trips.

Owns the steps from a call to its handle: its shard, and the hooks around the sending. The errors are in
`refusals`. Must not resend: the clients do.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from streamq.app.batch import EXISTS, Batch, Group, checked
from streamq.app.bound_task import Bound, Route, in_another_program
from streamq.app.handle import TaskHandle
from streamq.app.pool_watch import PoolWatch
from streamq.app.refusals import refuse
from streamq.client import flows
from streamq.client.flows import Destination
from streamq.client.loop_clients import AsyncClients
from streamq.client.sync_client import Client
from streamq.errors import InvalidOption
from streamq.flow import Flow
from streamq.hooks import Enqueue, await_within, call_within
from streamq.model.task import Accepted, Answer, Duplicate, TaskId, Unjoined
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.shards import shard_of
from streamq.transport.address import Address

_TWO_HOMES: Final = (
    "{} and a lane exclude each other where an app has several shards: each would choose the shard{}. "
    "Nothing was sent"
)
R = TypeVar("R")
_new: Final = tuple.__new__

if TYPE_CHECKING:
    from streamq.client.waiting import Waiting


class Enqueuer:
    """Sends the calls of one app. Safe to share between threads and event loops."""

    __slots__ = ("_asyncs", "_client", "_destinations", "_hooks", "_pools", "_registry")

    def __init__(self, registry: Registry, client: Client, asyncs: AsyncClients) -> None:
        self._registry, self._hooks = registry, registry.hooks
        self._client, self._asyncs = client, asyncs
        self._pools = PoolWatch()
        self._destinations = [Destination(shard) for shard in range(registry.shards)]

    def use(self, client: Client, asyncs: AsyncClients) -> None:
        """Send through other clients from now on."""
        self._client, self._asyncs = client, asyncs

    @property
    def server(self) -> Address:
        """Where the tasks go, as another process of this host reaches it."""
        return self._client.address.resolve()

    def move(self, server: Address) -> None:
        """Send to this server from now on: that of the worker, in a process that it started."""
        if self._client.address != server:
            self._registry.name = server.namespace.app(str(self._registry.name))
            self.use(self._client.at(server), self._asyncs.at(server))

    @contextmanager
    def using(self, client: Client, asyncs: AsyncClients) -> Generator[None]:
        """Send through other clients in a block."""
        before = self._client, self._asyncs
        self.use(client, asyncs)
        try:
            yield
        finally:
            self.use(*before)

    def drive(self, flow: Flow[R]) -> R:
        """Carry out a flow and return its result."""
        return self._client.drive(flow)

    async def adrive(self, flow: Flow[R]) -> R:
        """Carry out a flow from an event loop."""
        return await self._asyncs.current().drive(flow)

    @property
    def waiting(self) -> Waiting:
        """The waits of the running event loop."""
        return self._asyncs.current().waiting

    def wait(self, make: Callable[[Waiting], Coroutine[object, object, R]]) -> R:
        """Wait for a coroutine in the thread in which plain code waits."""
        return self._client.background().wait(make)

    def enqueue(self, bound: Bound[R]) -> TaskHandle[R]:
        """Send one call. Raises what `TaskType.enqueue` does."""
        if bound.route is None and not self._hooks.enqueue and self._registry.blobs is None:
            name, shard = bound.handler.name, self._client.next_shard()
            [answer] = self._client.enqueue(name, shard, [bound.task])
            if isinstance(answer, EXISTS):
                return self.handle(bound.handler, shard, answer)
            return self._resend([bound], [self._destinations[shard]], [answer])[0]
        [handle] = self.enqueue_many([bound])
        return handle

    def aenqueue(self, bound: Bound[R]) -> Coroutine[object, None, TaskHandle[R]]:
        """Send one call, as `enqueue` does, from an event loop."""
        plain = bound.route is None and not self._hooks.aenqueue and self._registry.blobs is None
        return self._asend_plain(bound) if plain else self._asend_single(bound)

    async def _asend_plain(self, bound: Bound[R]) -> TaskHandle[R]:
        name, shard = bound.handler.name, self._client.next_shard()
        [answer] = await self._asyncs.current().enqueue(name, shard, [bound.task])
        if isinstance(answer, EXISTS):
            return self.handle(bound.handler, shard, answer)
        return (await self._aresend([bound], [self._destinations[shard]], [answer]))[0]

    async def _asend_single(self, bound: Bound[R]) -> TaskHandle[R]:
        [handle] = await self.aenqueue_many([bound])
        return handle

    def enqueue_many(self, bound: Iterable[Bound[R]]) -> list[TaskHandle[R]]:
        """Send calls; return their handles in order. Raises what `StreamQ.enqueue_many` does."""
        listed = checked(bound, self._registry.name, self._registry.handlers)
        if self._registry.blobs is not None:
            from streamq.app.offload import offloaded  # noqa: PLC0415 - few programs have blobs

            listed = offloaded(listed, self._registry.name, self._registry.blobs)
        plain = self._next_shards(listed)
        batch = Batch(listed, plain or self._client.drive(self._route(listed)))
        handles = self._send_batch(batch, alone=len(listed) == 1)
        if not plain and (pooled := self._pools.due(listed)):
            self._client.drive(self._pools.look(self._registry.name, pooled))
        return handles

    def _resend(
        self, bound: list[Bound[R]], destinations: list[Destination], answers: list[Answer]
    ) -> list[TaskHandle[R]]:
        """Finish calls that have answers: send the unjoined again, raise what was refused."""
        batch = Batch(bound, destinations)
        for group in batch.groups():
            batch.answered(group, answers)
        return self._send_batch(batch, alone=True)

    def _send_batch(self, batch: Batch[R], *, alone: bool) -> list[TaskHandle[R]]:
        for group in batch.groups():
            batch.answered(group, self._send(group, alone=alone))
        if batch.unjoined():
            self._client.drive(self._rejoin(batch))
            for group in batch.groups():
                batch.answered(group, self._send(group, alone=alone))
        return batch.handles(self.handle)

    async def aenqueue_many(self, bound: Iterable[Bound[R]]) -> list[TaskHandle[R]]:
        """Send calls, as `enqueue_many` does, from an event loop."""
        listed = checked(bound, self._registry.name, self._registry.handlers)
        if self._registry.blobs is not None:
            from streamq.app.offload import aoffloaded  # noqa: PLC0415 - as above

            listed = await aoffloaded(listed, self._registry.name, self._registry.blobs)
        client = self._asyncs.current()
        plain = self._next_shards(listed)
        batch = Batch(listed, plain or await client.drive(self._route(listed)))
        handles = await self._asend_batch(batch, alone=len(listed) == 1)
        if not plain and (pooled := self._pools.due(listed)):
            await client.drive(self._pools.look(self._registry.name, pooled))
        return handles

    async def _aresend(
        self, bound: list[Bound[R]], destinations: list[Destination], answers: list[Answer]
    ) -> list[TaskHandle[R]]:
        """As `_resend`."""
        batch = Batch(bound, destinations)
        for group in batch.groups():
            batch.answered(group, answers)
        return await self._asend_batch(batch, alone=True)

    async def _asend_batch(self, batch: Batch[R], *, alone: bool) -> list[TaskHandle[R]]:
        for group in batch.groups():
            batch.answered(group, await self._asend(group, alone=alone))
        if batch.unjoined():
            await self._asyncs.current().drive(self._rejoin(batch))
            for group in batch.groups():
                batch.answered(group, await self._asend(group, alone=alone))
        return batch.handles(self.handle)

    def handle(self, handler: Handler, shard: int, answer: Accepted | Duplicate) -> TaskHandle[Any]:
        """Return the handle of a task that exists."""
        return TaskHandle(
            _new(TaskId, (handler.name, shard, answer.local)),
            self._registry.name,
            self._client,
            self._asyncs,
            handler.decode_result,
            duplicate=isinstance(answer, Duplicate),
            pipeline=self._registry.pipeline,
        )

    def _next_shards(self, bound: Sequence[Bound[R]]) -> list[Destination]:
        """Return the next shard for each call; nothing if one of them has a route of its own."""
        routes = [item.route for item in bound]
        if routes.count(None) < len(routes):
            return []
        if len(self._destinations) == 1:
            return self._destinations * len(routes)
        return [self._destinations[self._client.next_shard()] for _ in routes]

    def _route(self, bound: Sequence[Bound[R]]) -> Flow[list[Destination]]:
        """Choose the shard of each call: by its unique, idempotency or shard key, or the next shard."""
        found: list[Destination] = []
        for item in bound:
            destination = yield from self._home(item)
            found.append(destination)
        return found

    def _home(self, item: Bound[R]) -> Flow[Destination]:
        route, key, several = item.route, item.task.key, self._registry.shards > 1
        if route is None:
            return self._destinations[self._client.next_shard()]
        if route.split and several:
            raise _two_homes(route)
        if several and route.shard_key is not None and _names_its_lane(item):
            rules = yield from flows.policy_rules(self._registry, item.handler.name, 0)
            if rules.whole:  # what limits the whole type has one home
                route = route._replace(shard_key=item.handler.name)
        if route.lock is not None:
            return (
                yield from flows.home_of_lock(self._registry, item.handler.name, route.lock, route.shard_key)
            )
        if key is not None and not (route.shard_key is not None and several):
            return (yield from flows.destination(self._registry, key, answers=not route.trailing))
        if route.shard_key is not None:
            return Destination(shard_of(route.shard_key, self._registry.shards))
        return self._destinations[self._client.next_shard()]

    def _rejoin(self, batch: Batch[R]) -> Flow[None]:
        """Add what the type's policy asks for to calls by name; a unique key or a lane may change their
        shard."""
        for n in batch.unjoined():
            item, before = batch.at(n)
            rules = yield from flows.policy_rules(self._registry, item.handler.name, before.shard)
            from streamq.app.joined_task import rejoined  # noqa: PLC0415 - few types have such rules

            again = rejoined(item, rules, self._registry.name)
            route = again.route
            moves = route is not None and (route.lock or route.shard_key or again.task.key is not None)
            destination = (yield from self._route([again]))[0] if moves else Destination(before.shard)
            batch.rejoin(n, again, destination)

    def _send(self, group: Group, *, alone: bool) -> list[Answer]:
        """Send tasks within the hooks around the call. alone: a refusal is raised within them."""
        if not self._hooks.enqueue:
            return self._client.enqueue(group.task_type, group.shard, group.tasks, group.durability)
        call = Enqueue(self._registry.name, group.task_type, group.tasks)

        def send() -> list[Answer]:
            answers = self._client.enqueue(group.task_type, group.shard, call.checked(), group.durability)
            call.ids = _ids(group, answers)
            if alone:
                _check(group, answers)
            return answers

        return call_within((around(call) for around in self._hooks.enqueue), send)

    async def _asend(self, group: Group, *, alone: bool) -> list[Answer]:
        """As `_send`."""
        client = self._asyncs.current()
        if not self._hooks.aenqueue:
            return await client.enqueue(group.task_type, group.shard, group.tasks, group.durability)
        call = Enqueue(self._registry.name, group.task_type, group.tasks)

        async def send() -> list[Answer]:
            answers = await client.enqueue(group.task_type, group.shard, call.checked(), group.durability)
            call.ids = _ids(group, answers)
            if alone:
                _check(group, answers)
            return answers

        return await await_within((around(call) for around in self._hooks.aenqueue), send)


def _names_its_lane(item: Bound[object]) -> bool:
    """Return whether a call names its lane, of a type whose code is in another program."""
    return item.handler.function is in_another_program and '"lane"' in item.task.joins


def _two_homes(route: Route) -> InvalidOption:
    if route.lock is None:
        return InvalidOption(_TWO_HOMES.format("idempotency_key", ""))
    return InvalidOption(
        _TWO_HOMES.format("a unique key", ", unless the key has the argument that names the lane")
    )


def _ids(group: Group, answers: Sequence[Answer]) -> tuple[str, ...]:
    """Return the id of each task that exists, '' for the others."""
    return tuple(
        str(TaskId(group.task_type, group.shard, answer.local)) if isinstance(answer, EXISTS) else ""
        for answer in answers
    )


def _check(group: Group, answers: Sequence[Answer]) -> None:
    """Raise the error of a task that was refused. One that is unjoined is sent again first."""
    for answer in answers:
        if not isinstance(answer, (*EXISTS, Unjoined)):
            refuse(group.task_type, group.shard, answer, ())
