"""The async client of an event loop, with the group commit of concurrent `aenqueue` calls.

Owns the group commits, one for each task type, shard and durability. Imported with the first async call. Must
not decide how often a call is tried: the transport does.
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
from streamq.calls.call import AnyCall, Call
from streamq.calls.producer import NeedsLane, NotJoined, ShardClosed
from streamq.client import flows
from streamq.client.base import Base
from streamq.client.waiting import Waiting
from streamq.errors import AuthenticationFailed, OutcomeUnknown, RedisUnavailable, ServerError
from streamq.flow import Flow, adrive
from streamq.keys import TypeKeys
from streamq.model.task import Answer, NewTask, Unjoined
from streamq.options.checks import Durability
from streamq.registry.registry import Registry
from streamq.transport.address import Address
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import naming_rights
from streamq.transport.writer import AT_ONCE, BATCH, BATCH_BYTES, Writer, Writers

R = TypeVar("R")

FIRST_PAUSE: Final = 0.05
_new: Final = tuple.__new__
SOON: Final = 0.5
"""Seconds that a batch gets in any case; callers with less time left fail together with the first."""


class AsyncClient(Base):
    """The async client of one event loop."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry, address, patience)
        self.transport: AsyncTransport = AsyncTransport(address, patience=patience)
        self.waiting: Waiting = Waiting(self.transport, patience)
        self._group_commits: dict[tuple[str, int, Durability], _GroupCommit] = {}

    async def enqueue(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Send tasks of one type; return the answers in order. Concurrent calls share round trips."""
        commit = self._group_commits.get((task_type, shard, durability))
        if commit is None:
            commit = self._group_commits[(task_type, shard, durability)] = (
                _GroupCommit(self, task_type, shard)
                if durability == "master"
                else _DurableGroupCommit(self, task_type, shard, durability)
            )
        if len(tasks) > 1:
            return await asyncio.gather(*map(commit.put, tasks))
        return [await commit.put(tasks[0])] if commit.busy else await commit.send_now(tasks)

    async def register(self, task_type: str, shard: int) -> None:
        """Register a task type in a shard, once."""
        if (task_type, shard) not in self._registered:
            await self.drive(flows.register(self.registry, task_type, shard))
            self._registered.add((task_type, shard))

    @property
    def patience(self) -> float:
        """How many seconds a call is tried."""
        return self._patience

    async def run(
        self,
        shard: int,
        call: Call[list[Answer]],
        patience: float | None = None,
        *,
        fail_unsent: bool = False,
    ) -> list[Answer]:
        """Run an enqueue call as AsyncTransport.run does; open the shard first if it was closed."""
        try:
            return await self.transport.run(call, patience=patience, fail_unsent=fail_unsent)
        except ShardClosed:
            return await self.drive(flows.reopen(self.registry.name, shard, call))

    async def run_durably(
        self, keys: TypeKeys, call: Call[list[Answer]], durability: Durability
    ) -> list[Answer]:
        """Run an enqueue call, and wait until its tasks are as durable as asked."""
        if durability == "aof" and not self._can_aof:
            await self.drive(flows.probe_aof(keys))
            self._can_aof = True
        return list(await self.drive(self._durably(keys, call, durability)))

    async def drive(self, flow: Flow[R], patience: float | None = None) -> R:
        """Carry out a flow as Client.drive does."""
        return await adrive(self.transport, flow, patience=patience, share=self._share)

    async def _share(self, shard: int, call: AnyCall) -> object:
        try:
            return await self.waiting.ask_one(shard, call)
        except (AuthenticationFailed, ServerError) as error:
            raise naming_rights(error, self.transport.address.namespace.rights) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self.waiting.aclose()
        await self.transport.aclose()

    def abandon(self) -> None:
        """Close the connections after the event loop was closed, which can no longer do it."""
        self.waiting.abandon()
        self.transport.abandon()


class _Unsent(NamedTuple):
    """A task that has not been sent. until: when its caller's patience is over (monotonic)."""

    task: NewTask
    answer: asyncio.Future[Answer]
    until: float


class _GroupCommit:
    """Group commit: tasks that arrive while a call is in flight are sent together in the next one.

    At low load a task is sent at once, by its own caller; at high load the batch grows by itself. A batch is
    sent by an asyncio task of its own, so that a caller that is cancelled does not cancel the others'. Its
    task stays sent, or is withdrawn if it was not sent yet: a batch is composed when there is a connection to
    send it on, of the tasks that are still waited for.
    """

    def __init__(self, client: AsyncClient, task_type: str, shard: int) -> None:
        self._client = client
        self._type, self._shard = task_type, shard
        self._queue: deque[_Unsent] = deque()
        self._future = asyncio.get_running_loop().create_future
        self._writer = Writer()
        self._pause = FIRST_PAUSE
        self._patience = client.patience
        self.busy = False

    def put(self, task: NewTask) -> asyncio.Future[Answer]:
        """Queue a task for the next batch; return the future of its answer."""
        future: asyncio.Future[Answer] = self._future()
        self._queue.append(_new(_Unsent, (task, future, time.monotonic() + self._patience)))
        self._wake()
        return future

    def _wake(self) -> None:
        if not self.busy:
            self.busy = True
            self._client.transport.spawn(self._send_all())

    async def send_now(self, tasks: Sequence[NewTask]) -> list[Answer]:
        """Send tasks from the caller itself. Only while no batch is being sent."""
        self.busy = True
        try:
            return await self._call(tasks)
        finally:
            self.busy = False
            if self._queue:
                self._wake()

    async def _call(self, tasks: Sequence[NewTask], patience: float | None = None) -> list[Answer]:
        await self._client.register(self._type, self._shard)
        keys = self._client.keys(self._type, self._shard)
        call = producer_calls.enqueue(*keys, self._writer.id, self._writer.next(), tasks)
        try:
            return await self._client.run(self._shard, call, patience, fail_unsent=patience is not None)
        except NotJoined:
            return [Unjoined()] * len(tasks)
        except NeedsLane as needs:
            if self._client.registry.shards > 1:  # another shard may be its home
                return [Unjoined()] * len(tasks)
            return await self._call(self._client.with_lanes(self._type, tasks, needs), patience)

    async def _send_all(self) -> None:
        try:
            while self._queue:
                await self._send_next()
        finally:
            self.busy = False

    async def _send_next(self) -> None:
        """Send a batch of the tasks that are still waited for, or fail those whose patience is over."""
        failed = await self._connect()
        if failed is not None:
            self._give_up(failed)
        elif batch := self._batch():
            await self._send(batch)

    async def _connect(self) -> Exception | None:
        """Wait for a connection as long as the patience of the first caller; return why there is none."""
        while self._queue and self._queue[0].answer.done():
            self._queue.popleft()
        if not self._queue:
            return None
        keys, _ = self._client.keys(self._type, self._shard)
        try:
            patience = self._patience_of(self._queue[0], least=0.01)
            await self._client.transport.wait_connected(question_calls.ready(keys.policy), patience=patience)
            await self._client.register(self._type, self._shard)
        except Exception as error:  # noqa: BLE001 - for the callers to handle, whatever it is
            return error
        return None

    def _patience_of(self, first: _Unsent, *, least: float) -> float:
        if self._client.patience <= 0:
            return 0.0
        return max(first.until - time.monotonic(), least)

    def _give_up(self, error: Exception) -> None:
        later = time.monotonic() + SOON if isinstance(error, RedisUnavailable) else math.inf
        waiting, self._queue = self._queue, deque()
        for one in waiting:
            if one.answer.done():
                continue
            if one.until > later:
                self._queue.append(one)
            else:
                one.answer.set_exception(error)

    def _batch(self) -> list[_Unsent]:
        """Take the next batch, without tasks that are no longer waited for."""
        batch: list[_Unsent] = []
        waiting, size = self._queue, 0
        while waiting and len(batch) < BATCH:
            one = waiting.popleft()
            if one.answer.done():
                continue
            size += len(one.task.payload)
            if batch and size > BATCH_BYTES:
                waiting.appendleft(one)
                break
            batch.append(one)
        return batch

    async def _send(self, batch: Sequence[_Unsent]) -> None:
        patience = self._patience_of(batch[0], least=self._client.patience / 2)
        try:
            answers = await self._call([one.task for one in batch], patience)
        except OutcomeUnknown as error:
            self._fail(batch, error)
        except RedisUnavailable as error:
            await self._put_back(batch, error)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(batch, error)
        else:
            self._pause = FIRST_PAUSE
            for one, answer in zip(batch, answers, strict=True):
                if not one.answer.done():
                    one.answer.set_result(answer)

    @staticmethod
    def _fail(batch: Sequence[_Unsent], error: Exception) -> None:
        for one in batch:
            if not one.answer.done():
                one.answer.set_exception(error)

    async def _put_back(self, batch: Sequence[_Unsent], error: Exception) -> None:
        """Queue a batch again that was not sent, or was refused, to be sent later with newer tasks."""
        now = time.monotonic()
        self._fail([one for one in batch if one.until <= now], error)
        self._queue.extendleft(one for one in reversed(batch) if one.until > now)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
        self._pause = min(2 * self._pause, 1.0)


class _DurableGroupCommit(_GroupCommit):
    """Group commit with batches that each wait for replicas or a disk: several are in flight at once."""

    def __init__(self, client: AsyncClient, task_type: str, shard: int, durability: Durability) -> None:
        super().__init__(client, task_type, shard)
        self._durability: Durability = durability
        self._writers = Writers()
        self._senders = 0
        self.busy = True  # a caller never sends by itself

    def _wake(self) -> None:
        if self._senders < AT_ONCE:
            self._senders += 1
            self._client.transport.spawn(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._queue:
                await self._send_next()
        finally:
            self._senders -= 1

    async def _call(
        self,
        tasks: Sequence[NewTask],
        patience: float | None = None,  # not used on the wire: the flow has its own clock
    ) -> list[Answer]:
        await self._client.register(self._type, self._shard)
        writer = self._writers.take()
        try:
            keys = self._client.keys(self._type, self._shard)
            call = producer_calls.enqueue(*keys, writer.id, writer.next(), tasks)
            return await self._client.run_durably(keys[0], call, self._durability)
        except NotJoined:
            return [Unjoined()] * len(tasks)
        except NeedsLane as needs:
            if self._client.registry.shards > 1:  # another shard may be its home
                return [Unjoined()] * len(tasks)
            return await self._call(self._client.with_lanes(self._type, tasks, needs), patience)
        finally:
            self._writers.give(writer)
