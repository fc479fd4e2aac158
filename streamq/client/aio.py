"""The async client of an event loop, with the group commit of concurrent `aenqueue` calls.

Owns the lines, one for each task type, shard and durability. Loaded with the first async call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from streamq import calls, dialogue
from streamq.app import Registry
from streamq.calls import ShardClosed
from streamq.client.base import Base
from streamq.client.waiting import Waiting
from streamq.client.writers import AT_ONCE, BATCH, Writer, Writers, batches
from streamq.dialogue import Ask, Dialogue
from streamq.keys import TypeKeys
from streamq.model import Answer, NewTask
from streamq.options import Durability
from streamq.transport import Address, AsyncTransport

R = TypeVar("R")


class AsyncClient(Base):
    """The async client of one event loop."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry, address, patience)
        self.transport = AsyncTransport(address, patience=patience)
        self.waiting = Waiting(self.transport, patience)
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
        await self.waiting.aclose()
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
