"""The sync client.

Owns a connection pool that is made with the first call, and the idle writers that threads share.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from streamq.calls import producer as producer_calls
from streamq.calls.locate import locate
from streamq.calls.producer import NeedsLane, ShardClosed
from streamq.client import flows, lanes
from streamq.client.base import Base
from streamq.flow import Ask, Flow, drive
from streamq.keys import TypeKeys
from streamq.lazy import at_any_time
from streamq.model.reply import Located
from streamq.model.task import LIVING, Answer, NewTask
from streamq.options.checks import Durability
from streamq.registry.registry import Registry
from streamq.transport.address import Address
from streamq.transport.writer import AT_ONCE, Writers, batches

if TYPE_CHECKING:
    from streamq.client.background import Background
    from streamq.transport.sync_transport import SyncTransport

R = TypeVar("R")
T = TypeVar("T")


class Client(Base):
    """The sync client. Safe to share between threads."""

    def __init__(self, registry: Registry, address: Address, *, patience: float) -> None:
        super().__init__(registry, address, patience)
        self._address = address
        self._connecting, self._looking = threading.Lock(), threading.Lock()
        self._background: Background | None = None
        self._writers = Writers()

    @cached_property
    def transport(self) -> SyncTransport:
        """Made with the first call: a program that only imports its app need not load the client library."""
        from streamq.transport.sync_transport import SyncTransport  # noqa: PLC0415

        with self._connecting:
            made: SyncTransport | None = self.__dict__.get("transport")
            return made or SyncTransport(self._address, patience=self._patience)

    def enqueue(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Send tasks of one type; answers in their order. Raises RedisErrors."""
        if (task_type, shard) not in self._registered:
            self.drive(flows.register(self.registry, task_type, shard))
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
            call = producer_calls.enqueue(*keys, writer.id, writer.next(), batch)
            try:
                return self.transport.run(call)
            except NeedsLane as needs:
                told = lanes.named(batch, needs.argument, task_type, self.registry.shards)
                return self._send(task_type, shard, told)
            except ShardClosed:
                answers: list[Answer] = self.drive(flows.reopen(self.registry.name, shard, Ask(call)))
                return answers
        finally:
            self._writers.give(writer)

    def _enqueue_durably(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability
    ) -> list[Answer]:
        keys = self.keys(task_type, shard)
        if durability == "aof" and not self._can_aof:
            self.drive(flows.probe_aof(keys[0]))
            self._can_aof = True

        def send(batch: Sequence[NewTask]) -> Sequence[Answer]:
            writer = self._writers.take()
            try:
                call = producer_calls.enqueue(*keys, writer.id, writer.next(), batch)
                return self.drive(self._durably(keys[0], call, durability))
            except NeedsLane as needs:
                return send(lanes.named(batch, needs.argument, task_type, self.registry.shards))
            finally:
                self._writers.give(writer)

        listed = list(batches(tasks))
        if len(listed) == 1:
            return list(send(listed[0]))
        return list(itertools.chain.from_iterable(_side_by_side(send, listed)))

    def drive(self, flow: Flow[R]) -> R:
        """Carry a flow out and return its result; raises what it raises."""
        return drive(self.transport, flow)

    def ended(self, keys: TypeKeys, local: str, deadline: float | None) -> Located:
        """As Waiting.ended. One looks by himself, as the task may have ended; who must wait does so in the
        background, and who would look at the same time too."""
        seen: Located | None = None
        if self._looking.acquire(blocking=False):
            try:
                left = None if deadline is None else max(0.01, deadline - time.monotonic())
                seen = self.transport.run(locate(keys, local), patience=left)
            finally:
                self._looking.release()
            if seen.state not in LIVING:
                return seen
        return self.background().wait(lambda waiting: waiting.ended(keys, local, deadline, seen))

    def background(self) -> Background:
        """Where this program's threads wait for tasks."""
        with self._connecting:
            if self._background is None:
                from streamq.client.background import Background  # noqa: PLC0415 - most programs never wait

                self._background = Background(self._address, self._patience)
            return self._background

    def forget(self) -> None:
        """After a fork: a child that went on with its parent's writers would have its tasks taken for
        repeats of the parent's, and lost."""
        self._writers = Writers()
        self._connecting, self._looking = threading.Lock(), threading.Lock()
        self._background = None  # its thread is the parent's
        if "transport" in self.__dict__:
            self.transport.forget()

    def close(self) -> None:
        background, self._background = self._background, None
        if background is not None:
            background.close()
        if "transport" in self.__dict__:
            self.transport.close()


def _side_by_side(send: Callable[[T], R], batches: Sequence[T]) -> list[R]:
    """Each waits for the server's disk or its replicas: side by side they wait once. One after the
    other where the program is at its end and starts no threads."""
    with at_any_time():
        from concurrent.futures import Future, ThreadPoolExecutor  # noqa: PLC0415 - most programs never get here
    sent: list[Future[R]] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        try:
            for batch in batches:
                sent.append(threads.submit(send, batch))  # noqa: PERF401 - it may end in the middle
        except RuntimeError:
            return [one.result() for one in sent] + [send(batch) for batch in batches[len(sent) :]]
        return [one.result() for one in sent]
