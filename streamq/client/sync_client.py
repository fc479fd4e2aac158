"""The sync client.

Owns the transport, which is created with the first call, and the idle writers that threads share. Must not
decide how often a call is tried: the transport does.
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
from streamq.calls.producer import NeedsLane, NotJoined, ShardClosed
from streamq.client import flows
from streamq.client.base import Base
from streamq.flow import Flow, drive
from streamq.keys import TypeKeys
from streamq.lazy import allowed_at_exit
from streamq.model.reply import Located
from streamq.model.task import LIVING, Answer, NewTask, Unjoined
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
        self.address = address
        self._connecting, self._looking = threading.Lock(), threading.Lock()
        self._background: Background | None = None
        self._writers = Writers()

    @cached_property
    def transport(self) -> SyncTransport:
        """Created with the first call: a program that only imports its app does not import the client
        library."""
        with allowed_at_exit():
            from streamq.transport.sync_transport import SyncTransport  # noqa: PLC0415

        with self._connecting:
            made: SyncTransport | None = self.__dict__.get("transport")
            return made or SyncTransport(self.address, patience=self._patience)

    def at(self, server: Address) -> Client:
        """Return the same client for another server."""
        return Client(self.registry, server, patience=self._patience)

    def enqueue(
        self, task_type: str, shard: int, tasks: Sequence[NewTask], durability: Durability = "master"
    ) -> list[Answer]:
        """Send tasks of one type; return the answers in order. Raises RedisErrors."""
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
                if self.registry.shards > 1:  # another shard may be its home
                    return [Unjoined()] * len(batch)
                return self._send(task_type, shard, self.with_lanes(task_type, batch, needs))
            except ShardClosed:
                return self.drive(flows.reopen(self.registry.name, shard, call))
        except NotJoined:
            return [Unjoined()] * len(batch)
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
            except NotJoined:
                return [Unjoined()] * len(batch)
            except NeedsLane as needs:
                if self.registry.shards > 1:  # another shard may be its home
                    return [Unjoined()] * len(batch)
                return send(self.with_lanes(task_type, batch, needs))
            finally:
                self._writers.give(writer)

        listed = list(batches(tasks))
        if len(listed) == 1:
            return list(send(listed[0]))
        return list(itertools.chain.from_iterable(_in_threads(send, listed)))

    def drive(self, flow: Flow[R], patience: float | None = None) -> R:
        """Carry out a flow and return its result. Raises what the flow raises. patience: of each call."""
        return drive(self.transport, flow, patience=patience)

    def wait_until_ended(self, keys: TypeKeys, local: str, deadline: float | None) -> Located:
        """Wait as Waiting.wait_until_ended does. The first thread looks by itself, as the task may have
        ended; it waits in the background thread, and so do threads that would look at the same time."""
        seen: Located | None = None
        if self._looking.acquire(blocking=False):
            try:
                left = None if deadline is None else max(0.01, deadline - time.monotonic())
                seen = self.transport.run(locate(keys, local), patience=left)
            finally:
                self._looking.release()
            if seen.state not in LIVING:
                return seen
        return self.background().wait(lambda waiting: waiting.wait_until_ended(keys, local, deadline, seen))

    def background(self) -> Background:
        """Return the thread in which this program waits for tasks."""
        with self._connecting:
            if self._background is None:
                with allowed_at_exit():
                    from streamq.client.background import Background  # noqa: PLC0415 - most programs never wait

                self._background = Background(self.address, self._patience)
            return self._background

    def forget(self) -> None:
        """Start anew after a fork: with its parent's writers, a child's tasks would be taken for repeats of
        the parent's, and lost."""
        self._writers = Writers()
        self._connecting, self._looking = threading.Lock(), threading.Lock()
        self._background = None  # its thread is the parent's
        if "transport" in self.__dict__:
            self.transport.forget()

    def close(self) -> None:
        """Close the connections."""
        background, self._background = self._background, None
        if background is not None:
            background.close()
        if "transport" in self.__dict__:
            self.transport.close()


def _in_threads(send: Callable[[T], R], batches: Sequence[T]) -> list[R]:
    """Send batches in parallel, as each waits for the server's disk or its replicas. One after the other if
    the program is ending and starts no threads."""
    with allowed_at_exit():
        from concurrent.futures import Future, ThreadPoolExecutor  # noqa: PLC0415 - most programs do not need it
    sent: list[Future[R]] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        try:
            for batch in batches:
                sent.append(threads.submit(send, batch))  # noqa: PERF401 - the sent ones must be known if it fails
        except RuntimeError:
            return [one.result() for one in sent] + [send(batch) for batch in batches[len(sent) :]]
        return [one.result() for one in sent]
