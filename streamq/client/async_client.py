"""The async client of an event loop, with the group commit of concurrent `aenqueue` calls.

Owns the lines, one for each task type, shard and durability. Loaded with the first async call.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.calls.producer import NeedsLane, ShardClosed
from streamq.client import flows, lanes
from streamq.client.base import Base
from streamq.client.waiting import Waiting
from streamq.errors import OutcomeUnknown, RedisUnavailable
from streamq.flow import Ask, Flow, adrive
from streamq.keys import TypeKeys
from streamq.model.task import Answer, NewTask
from streamq.options.checks import Durability
from streamq.registry.registry import Registry
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.writer import AT_ONCE, BATCH, BATCH_BYTES, Writer, Writers

R = TypeVar("R")

FIRST_PAUSE: Final = 0.05
_new: Final = tuple.__new__
SOON: Final = 0.5
"""Seconds that a batch gets in any case; who has no more than that left is told with the others."""


class AsyncClient(Base):
    """The async client of one event loop."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry, address, patience)
        self.transport: AsyncTransport = AsyncTransport(address, patience=patience)
        self.waiting: Waiting = Waiting(self.transport, patience)
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
            await self.drive(flows.register(self.registry, task_type, shard))
            self._registered.add((task_type, shard))

    @property
    def patience(self) -> float:
        """Seconds that a call is tried."""
        return self._patience

    async def run(
        self,
        shard: int,
        call: Call[list[Answer]],
        patience: float | None = None,
        *,
        once: bool = False,
    ) -> list[Answer]:
        try:
            return await self.transport.run(call, patience=patience, unless_unsent=once)
        except ShardClosed:
            answers: list[Answer] = await self.drive(flows.reopen(self.registry.name, shard, Ask(call)))
            return answers

    async def run_durably(
        self, keys: TypeKeys, call: Call[list[Answer]], durability: Durability
    ) -> list[Answer]:
        if durability == "aof" and not self._can_aof:
            await self.drive(flows.probe_aof(keys))
            self._can_aof = True
        return list(await self.drive(self._durably(keys, call, durability)))

    async def drive(self, flow: Flow[R]) -> R:
        """As Client.hold."""
        return await adrive(self.transport, flow)

    async def aclose(self) -> None:
        await self.waiting.aclose()
        await self.transport.aclose()


class _Waiting(NamedTuple):
    """A task that has not been sent. `until`: when its caller's patience is used up."""

    task: NewTask
    answer: asyncio.Future[Answer]
    until: float


class _Line:
    """Group commit: what comes while a call is under way goes out together in the next.

    At low load a task goes at once, sent by its own caller; at high load the batch grows by itself. A
    batch is sent by a task of its own, so a caller that gives up waiting does not tear down the others'. What
    that caller has sent is out; what has not been sent is withdrawn: a batch is made up when there is a
    connection that it can go out on, of those who still wait.
    """

    def __init__(self, client: AsyncClient, task_type: str, shard: int) -> None:
        self._client = client
        self._type, self._shard = task_type, shard
        self._waiting: deque[_Waiting] = deque()
        self._future = asyncio.get_running_loop().create_future
        self._writer = Writer()
        self._pause = FIRST_PAUSE
        self._patience = client.patience
        self.busy = False

    def put(self, task: NewTask) -> asyncio.Future[Answer]:
        future: asyncio.Future[Answer] = self._future()
        self._waiting.append(_new(_Waiting, (task, future, time.monotonic() + self._patience)))
        self._wake()
        return future

    def _wake(self) -> None:
        if not self.busy:
            self.busy = True
            self._client.transport.spawn(self._send_all())

    async def ask(self, tasks: Sequence[NewTask]) -> list[Answer]:
        """Send now, in the caller's own name; nobody else may be sending."""
        self.busy = True
        try:
            return await self._call(tasks)
        finally:
            self.busy = False
            if self._waiting:
                self._wake()

    async def _call(self, tasks: Sequence[NewTask], patience: float | None = None) -> list[Answer]:
        await self._client.register(self._type, self._shard)
        keys = self._client.keys(self._type, self._shard)
        call = producer_calls.enqueue(*keys, self._writer.id, self._writer.next(), tasks)
        try:
            return await self._client.run(self._shard, call, patience, once=patience is not None)
        except NeedsLane as needs:
            return await self._call(self._named(tasks, needs), patience)

    def _named(self, tasks: Sequence[NewTask], needs: NeedsLane) -> list[NewTask]:
        return lanes.named(tasks, needs.argument, self._type, self._client.registry.shards)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_next()
        finally:
            self.busy = False

    async def _send_next(self) -> None:
        """Send a batch of those who still wait, or tell those whose time is up why it was not sent."""
        failed = await self._reached()
        if failed is not None:
            self._give_up(failed)
        elif batch := self._batch():
            await self._send(batch)

    async def _reached(self) -> Exception | None:
        """Wait for a connection as long as the first of the callers would; answers why there is none."""
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        if not self._waiting:
            return None
        keys, _ = self._client.keys(self._type, self._shard)
        try:
            patience = self._patience_of(self._waiting[0], least=0.01)
            await self._client.transport.connected(question_calls.ready(keys.policy), patience=patience)
            await self._client.register(self._type, self._shard)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to handle
            return error
        return None

    def _patience_of(self, first: _Waiting, *, least: float) -> float:
        if self._client.patience <= 0:
            return 0.0
        return max(first.until - time.monotonic(), least)

    def _give_up(self, error: Exception) -> None:
        later = time.monotonic() + SOON if isinstance(error, RedisUnavailable) else math.inf
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            if one.answer.done():
                continue
            if one.until > later:
                self._waiting.append(one)
            else:
                one.answer.set_exception(error)

    def _batch(self) -> list[_Waiting]:
        """What goes out next; what nobody waits for any more is left out."""
        several: list[_Waiting] = []
        waiting, size = self._waiting, 0
        while waiting and len(several) < BATCH:
            one = waiting.popleft()
            if one.answer.done():
                continue
            size += len(one.task.payload)
            if several and size > BATCH_BYTES:
                waiting.appendleft(one)
                break
            several.append(one)
        return several

    async def _send(self, batch: Sequence[_Waiting]) -> None:
        patience = self._patience_of(batch[0], least=self._client.patience / 2)
        try:
            answers = await self._call([one.task for one in batch], patience)
        except OutcomeUnknown as error:
            self._tell(batch, error)
        except RedisUnavailable as error:
            await self._put_back(batch, error)
        except Exception as error:  # noqa: BLE001 - as above
            self._tell(batch, error)
        else:
            self._pause = FIRST_PAUSE
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    @staticmethod
    def _tell(batch: Sequence[_Waiting], error: Exception) -> None:
        for one in batch:
            if not one.answer.done():
                one.answer.set_exception(error)

    async def _put_back(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Nothing of it went out, or it was refused: it is sent later, with those who come meanwhile."""
        now = time.monotonic()
        self._tell([one for one in batch if one.until <= now], error)
        self._waiting.extendleft(one for one in reversed(batch) if one.until > now)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(2 * self._pause, 1.0)


class _DurableLine(_Line):
    """Group commit where each batch waits for replicas or a disk: several are under way at once."""

    def __init__(self, client: AsyncClient, task_type: str, shard: int, durability: Durability) -> None:
        super().__init__(client, task_type, shard)
        self._durability: Durability = durability
        self._writers = Writers()
        self._senders = 0
        self.busy = True  # never sent in a caller's own name

    def _wake(self) -> None:
        if self._senders < AT_ONCE:
            self._senders += 1
            self._client.transport.spawn(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_next()
        finally:
            self._senders -= 1

    async def _call(
        self,
        tasks: Sequence[NewTask],
        patience: float | None = None,  # the flow has a clock of its own
    ) -> list[Answer]:
        await self._client.register(self._type, self._shard)
        writer = self._writers.take()
        try:
            keys = self._client.keys(self._type, self._shard)
            call = producer_calls.enqueue(*keys, writer.id, writer.next(), tasks)
            return await self._client.run_durably(keys[0], call, self._durability)
        except NeedsLane as needs:
            return await self._call(self._named(tasks, needs), patience)
        finally:
            self._writers.give(writer)
