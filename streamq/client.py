"""Puts tasks in: a sync and an async client over the same calls.

Owns the writers (who makes enqueue safe to resend), the registration of task types and the group
commit of concurrent `aenqueue` calls. Knows no handler's code and no worker.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeVar

from streamq import calls, dialogue
from streamq.app import Registry
from streamq.calls import ShardClosed
from streamq.dialogue import Ask, Dialogue
from streamq.durability import LONGEST_WAIT, Tries
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model import Answer, NewTask
from streamq.options import Durability
from streamq.transport import Address

if TYPE_CHECKING:
    from streamq.transport import AsyncTransport, SyncTransport

R = TypeVar("R")

BATCH: Final = 300
"""Tasks in one script call at most: it blocks the server for about a millisecond."""
BATCH_BYTES: Final = 1024 * 1024
AT_ONCE: Final = 16
"""Batches under way at once where each waits for replicas or a disk, on a connection of its own."""


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

    def __init__(self, registry: Registry, address: Address, patience: float) -> None:
        self.registry = registry
        self._patience = patience
        # The server's wait ends well before we give up its reply.
        self._longest_wait = float(address.arguments.get("socket_timeout", 2 * LONGEST_WAIT)) / 2
        self._registered: set[tuple[str, int]] = set()
        self._can_aof = False
        self._turn = itertools.count()

    def keys(self, task_type: str, shard: int) -> tuple[TypeKeys, ShardKeys]:
        app = self.registry.name
        return type_keys(app, shard, task_type), shard_keys(app, shard)

    def next_shard(self) -> int:
        return next(self._turn) % self.registry.shards

    def _durably(
        self, keys: TypeKeys, call: calls.Call[list[Answer]], durability: Durability
    ) -> Dialogue[Sequence[Answer]]:
        tries = Tries(time.monotonic() + self._patience, self._longest_wait)
        return dialogue.make_durable(keys, call, durability, tries)


class Client(_Base):
    """The sync client. Safe to share between threads."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry, address, patience)
        self._address = address
        self._connecting = threading.Lock()
        self._writers = Writers()

    @cached_property
    def transport(self) -> SyncTransport:
        """Made with the first call: a program that only imports its app need not load the client library."""
        from streamq.transport import SyncTransport  # noqa: PLC0415

        with self._connecting:
            made: SyncTransport | None = self.__dict__.get("transport")
            return made or SyncTransport(self._address, patience=self._patience)

    def enqueue(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Send tasks of one type; answers in their order. Raises RedisErrors."""
        if (task_type, shard) not in self._registered:
            self.hold(dialogue.register(self.registry, task_type, shard))
            self._registered.add((task_type, shard))
        if durability != "master":
            return self._enqueue_durably(task_type, shard, tasks, durability)
        if len(tasks) == 1:
            return self._send(task_type, shard, tasks)
        return [answer for batch in batches(tasks) for answer in self._send(task_type, shard, batch)]

    def _send(self, task_type: str, shard: int, batch: Sequence[NewTask]) -> list[Answer]:
        writer = self._writers.take()
        try:
            keys = self.keys(task_type, shard)
            call = calls.enqueue(*keys, writer.id, writer.next(), batch)
            try:
                return self.transport.run(call)
            except ShardClosed:
                answers: list[Answer] = self.hold(dialogue.reopen(self.registry.name, shard, Ask(call)))
                return answers
        finally:
            self._writers.give(writer)

    def _enqueue_durably(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability
    ) -> list[Answer]:
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - most programs never get here

        keys = self.keys(task_type, shard)
        if durability == "aof" and not self._can_aof:
            self.hold(dialogue.probe_aof(keys[0]))
            self._can_aof = True

        def send(batch: Sequence[NewTask]) -> Sequence[Answer]:
            writer = self._writers.take()
            try:
                call = calls.enqueue(*keys, writer.id, writer.next(), batch)
                return self.hold(self._durably(keys[0], call, durability))
            finally:
                self._writers.give(writer)

        listed = list(batches(tasks))
        if len(listed) == 1:
            return list(send(listed[0]))
        # Each waits for the server's disk or its replicas: side by side they wait once.
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(itertools.chain.from_iterable(threads.map(send, listed)))

    def hold(self, talk: Dialogue[R]) -> R:
        """Hold a dialogue to its end; raises what it raises."""
        try:
            ask = next(talk)
            while True:
                try:
                    answer = self.transport.run(ask.call, patience=ask.patience)
                except Exception as error:  # noqa: BLE001 - the dialogue's to handle, or to raise
                    ask = talk.throw(error)
                else:
                    ask = talk.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result

    def forget(self) -> None:
        """After a fork: a child that went on with its parent's writers would have its tasks taken for
        repeats of the parent's, and lost."""
        self._writers = Writers()
        self._connecting = threading.Lock()
        if "transport" in self.__dict__:
            self.transport.forget()

    def close(self) -> None:
        if "transport" in self.__dict__:
            self.transport.close()


class AsyncClient(_Base):
    """The async client of one event loop."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        from streamq.transport import AsyncTransport  # noqa: PLC0415 - as in Client.transport

        super().__init__(registry, address, patience)
        self.transport: AsyncTransport = AsyncTransport(address, patience=patience)
        self._lines: dict[tuple[str, int, Durability], _Line] = {}

    async def enqueue(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Send tasks of one type; answers in their order. Concurrent calls share round trips."""
        line = self._lines.get((task_type, shard, durability))
        if line is None:
            line = self._lines[(task_type, shard, durability)] = (
                _Line(self, task_type, shard)
                if durability == "master"
                else _DurableLine(self, task_type, shard, durability)
            )
        if len(tasks) > 1:
            return await asyncio.gather(*map(line.put, tasks))
        return [await line.put(tasks[0])] if line.busy else await line.ask(tasks)

    async def register(self, task_type: str, shard: int) -> None:
        if (task_type, shard) not in self._registered:
            await self.hold(dialogue.register(self.registry, task_type, shard))
            self._registered.add((task_type, shard))

    async def run(self, shard: int, call: calls.Call[list[Answer]]) -> list[Answer]:
        try:
            return await self.transport.run(call)
        except ShardClosed:
            answers: list[Answer] = await self.hold(dialogue.reopen(self.registry.name, shard, Ask(call)))
            return answers

    async def run_durably(
        self, keys: TypeKeys, call: calls.Call[list[Answer]], durability: Durability
    ) -> list[Answer]:
        if durability == "aof" and not self._can_aof:
            await self.hold(dialogue.probe_aof(keys))
            self._can_aof = True
        return list(await self.hold(self._durably(keys, call, durability)))

    async def hold(self, talk: Dialogue[R]) -> R:
        """As Client.hold."""
        try:
            ask = next(talk)
            while True:
                try:
                    answer = await self.transport.run(ask.call, patience=ask.patience)
                except Exception as error:  # noqa: BLE001 - the dialogue's to handle, or to raise
                    ask = talk.throw(error)
                else:
                    ask = talk.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result

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
        call = calls.enqueue(*keys, self._writer.id, self._writer.next(), tasks)
        return await self._client.run(self._shard, call)

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


class _DurableLine(_Line):
    """Group commit where each batch waits for replicas or a disk: several are under way at once."""

    def __init__(self, client: AsyncClient, task_type: str, shard: int, durability: Durability) -> None:
        super().__init__(client, task_type, shard)
        self._durability: Durability = durability
        self._writers = Writers()
        self._senders = 0
        self.busy = True  # never sent in a caller's own name

    def put(self, task: NewTask) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((task, future))
        if self._senders < AT_ONCE:
            self._senders += 1
            self._client.transport.spawn(self._send_all())
        return future

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch = next(batches([task for task, _ in self._waiting[:BATCH]]))
                futures = [future for _, future in self._waiting[: len(batch)]]
                del self._waiting[: len(batch)]
                await self._send(batch, futures)
        finally:
            self._senders -= 1

    async def _call(self, tasks: Sequence[NewTask]) -> list[Answer]:
        await self._client.register(self._type, self._shard)
        writer = self._writers.take()
        try:
            keys = self._client.keys(self._type, self._shard)
            call = calls.enqueue(*keys, writer.id, writer.next(), tasks)
            return await self._client.run_durably(keys[0], call, self._durability)
        finally:
            self._writers.give(writer)


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
