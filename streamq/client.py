"""Puts tasks in: a sync and an async client over the same calls.

Owns the writers (who makes enqueue safe to resend), the registration of task types and the group
commit of concurrent `aenqueue` calls. Knows no handler's code and no worker.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from streamq import calls
from streamq.app import Registry
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model import Answer, NewTask
from streamq.transport import Address, AsyncTransport, SyncTransport

BATCH: Final = 300
"""Tasks in one script call at most: it blocks the server for about a millisecond."""
BATCH_BYTES: Final = 1024 * 1024


class Writer:
    """One sender at a time: an id and the number of its last call.

    The server remembers the last call of each writer, so a call whose answer was lost can be sent again.
    """

    __slots__ = ("_number", "id")

    def __init__(self) -> None:
        self.id = secrets.token_urlsafe(9)
        self._number = 0

    def next(self) -> int:
        self._number += 1
        return self._number


class Writers:
    """Idle writers, shared by threads: as many exist as calls were ever under way at once."""

    def __init__(self) -> None:
        self._idle: deque[Writer] = deque()

    def take(self) -> Writer:
        try:
            return self._idle.pop()
        except IndexError:
            return Writer()

    def give(self, writer: Writer) -> None:
        self._idle.append(writer)


def batches(tasks: Sequence[NewTask]) -> Iterator[Sequence[NewTask]]:
    """Cut what one call carries: by number and by bytes, never less than one."""
    start = size = 0
    for n, task in enumerate(tasks):
        if n > start and (n - start >= BATCH or size + len(task.payload) > BATCH_BYTES):
            yield tasks[start:n]
            start, size = n, 0
        size += len(task.payload)
    if start < len(tasks):
        yield tasks[start:]


class _Base:
    """What both clients know: the app, its keys, and what it has registered."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._registered: set[tuple[str, int]] = set()
        self._turn = itertools.count()

    def keys(self, task_type: str, shard: int) -> tuple[TypeKeys, ShardKeys]:
        app = self.registry.name
        return type_keys(app, shard, task_type), shard_keys(app, shard)

    def next_shard(self) -> int:
        return next(self._turn) % self.registry.shards

    def _registration(self, task_type: str, shard: int) -> list[calls.Call[Any]]:
        """What to tell the server before the first task of a type."""
        handler = self.registry.handlers.get(task_type)
        told: list[calls.Call[Any]] = [announcement(self.registry)]
        if handler is not None:
            keys = self.keys(task_type, shard)
            told.append(calls.register(*keys, handler.reference, handler.options.policy()))
        return told


def announcement(registry: Registry) -> calls.Call[int]:
    return calls.announce(registry.name, orjson.dumps({"shards": registry.shards}))


class Client(_Base):
    """The sync client. Safe to share between threads."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry)
        self.transport = SyncTransport(address, patience=patience)
        self._writers = Writers()

    def enqueue(self, task_type: str, shard: int, tasks: Sequence[NewTask]) -> list[Answer]:
        """Send tasks of one type; answers in their order. Raises RedisErrors."""
        if (task_type, shard) not in self._registered:
            for call in self._registration(task_type, shard):
                self.transport.run(call)
            self._registered.add((task_type, shard))
        if len(tasks) == 1:
            return self._send(task_type, shard, tasks)
        return [answer for batch in batches(tasks) for answer in self._send(task_type, shard, batch)]

    def _send(self, task_type: str, shard: int, batch: Sequence[NewTask]) -> list[Answer]:
        writer = self._writers.take()
        try:
            keys = self.keys(task_type, shard)
            return self.transport.run(calls.enqueue(*keys, writer.id, writer.next(), batch))
        finally:
            self._writers.give(writer)

    def forget(self) -> None:
        """After a fork: a child that went on with its parent's writers would have its tasks taken for
        repeats of the parent's, and lost."""
        self._writers = Writers()
        self.transport.forget()

    def close(self) -> None:
        self.transport.close()


class AsyncClient(_Base):
    """The async client of one event loop."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry)
        self.transport = AsyncTransport(address, patience=patience)
        self._lines: dict[tuple[str, int], _Line] = {}

    async def enqueue(self, task_type: str, shard: int, tasks: Sequence[NewTask]) -> list[Answer]:
        """Send tasks of one type; answers in their order. Concurrent calls share round trips."""
        line = self._lines.get((task_type, shard))
        if line is None:
            line = self._lines[(task_type, shard)] = _Line(self, task_type, shard)
        if len(tasks) > 1:
            return await asyncio.gather(*map(line.put, tasks))
        return [await line.put(tasks[0])] if line.busy else await line.ask(tasks)

    async def register(self, task_type: str, shard: int) -> None:
        if (task_type, shard) not in self._registered:
            for call in self._registration(task_type, shard):
                await self.transport.run(call)
            self._registered.add((task_type, shard))

    async def aclose(self) -> None:
        await self.transport.aclose()


class _Line:
    """Group commit: what comes while a call is under way goes out together in the next.

    At low load a task goes at once, sent by its own caller; at high load the batch grows by itself. A
    batch is sent by a task of its own, so a caller that gives up waiting does not tear down the others'.
    """

    def __init__(self, client: AsyncClient, task_type: str, shard: int) -> None:
        self._client = client
        self._type, self._shard = task_type, shard
        self._waiting: list[tuple[NewTask, asyncio.Future[Answer]]] = []
        self._writer = Writer()
        self.busy = False

    def put(self, task: NewTask) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((task, future))
        if not self.busy:
            self.busy = True
            self._client.transport.spawn(self._send_all())
        return future

    async def ask(self, tasks: Sequence[NewTask]) -> list[Answer]:
        """Send now, in the caller's own name; nobody else may be sending."""
        self.busy = True
        try:
            return await self._call(tasks)
        finally:
            if self._waiting:
                self._client.transport.spawn(self._send_all())
            else:
                self.busy = False

    async def _call(self, tasks: Sequence[NewTask]) -> list[Answer]:
        await self._client.register(self._type, self._shard)
        keys = self._client.keys(self._type, self._shard)
        return await self._client.transport.run(
            calls.enqueue(*keys, self._writer.id, self._writer.next(), tasks)
        )

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                start = 0
                for batch in batches([task for task, _ in waiting]):
                    futures = [future for _, future in waiting[start : start + len(batch)]]
                    start += len(batch)
                    await self._send(batch, futures)
        finally:
            self.busy = False

    async def _send(self, batch: Sequence[NewTask], futures: list[asyncio.Future[Answer]]) -> None:
        try:
            answers = await self._call(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to handle
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, answer in zip(futures, answers, strict=True):
            if not future.done():
                future.set_result(answer)


class AsyncClients:
    """The async client of the running loop, made at first use; loops that are closed are forgotten."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        self._registry, self._address, self._patience = registry, address, patience
        self._by_loop: dict[asyncio.AbstractEventLoop, AsyncClient] = {}
        self._lock = threading.Lock()

    def current(self) -> AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        return client if client is not None else self._make(loop)

    def _make(self, loop: asyncio.AbstractEventLoop) -> AsyncClient:
        with self._lock:
            for closed in [known for known in self._by_loop if known.is_closed()]:
                del self._by_loop[closed]
            client = AsyncClient(self._registry, self._address, patience=self._patience)
            self._by_loop[loop] = client
        return client

    async def aclose(self) -> None:
        """Close the client of the running loop, if there is one."""
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def forget(self) -> None:
        self._by_loop = {}
        self._lock = threading.Lock()
