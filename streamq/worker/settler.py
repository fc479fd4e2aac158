"""The only writer of outcomes: collects them and settles them in batches, through outages of any length.

Owns the group commit of settlements: outcomes that arrive while a call is in flight are sent in the next one.
Each shard has its own lane, so that an unreachable server does not block the other shards. A fenced delivery
is not settled. Must not know handlers.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import Final, NoReturn

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import shard_keys, type_keys
from streamq.model.effect import Continued, Follow, NodeResult
from streamq.model.outcome import Outcome, Settlement
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import ServerChanged
from streamq.transport.server_wait import wait_until_ready
from streamq.transport.writer import Writer
from streamq.worker import fork_guard
from streamq.worker.attempt_log import AttemptLog
from streamq.worker.config import WorkerConfig
from streamq.worker.in_flight import Held, InFlight, TypeShard
from streamq.worker.server_epochs import ServerEpochs

BATCH: Final = 200
MOST_NODES: Final = 100
"""The most outcomes in one call, and nodes of flows among them: the end of a node costs the server more."""
MOST_FOLLOW_UPS, MOST_BYTES = 100, 524_288
"""The most follow-ups, and bytes of these, in one call, unless a single attempt has more."""
_new: Final = tuple.__new__
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts on a server that replies with an error (loading, read only)."""

Ended = tuple[Held, Outcome]


class Settler:
    """Settles the deliveries of one worker process. `freed` is called after each call; `settled` takes what
    Redis has stored."""

    def __init__(
        self,
        config: WorkerConfig,
        in_flight: InFlight,
        servers: ServerEpochs,
        attempt_log: AttemptLog,
        freed: Callable[[], None],
        settled: Callable[[list[Ended]], None],
    ) -> None:
        self.transport: AsyncTransport = config.transport
        self.app: str = config.registry.name
        self.counters: Counters = config.counters
        self.in_flight = in_flight
        self.servers = servers
        self.freed = freed
        self.attempt_log = attempt_log
        self.settled = settled
        self.log: logs.Logger = logs.get_logger(worker=config.name)
        self._lanes: dict[int, _Lane] = {}
        self._opened = asyncio.Event()
        _SETTLERS.add(self)

    def put(self, held: Held, outcome: Outcome) -> None:
        """Settle a delivery soon. It remains in flight until Redis has acknowledged that."""
        delivery = held.delivery
        lane = self._lanes.get(delivery.shard)
        if lane is None:
            lane = self._open(delivery.shard)
        waiting = lane.waiting.get(delivery.type)
        if waiting is None:
            waiting = lane.begin(delivery.type)
        waiting.append((held, outcome))

    def disown(self) -> None:
        """Settle nothing from now on: this is a forked copy of the worker, and the next `put` ends it."""
        self._lanes = _ForkedLanes()

    def _open(self, shard: int) -> _Lane:
        lane = self._lanes[shard] = _Lane(self, shard)
        self._opened.set()
        return lane

    async def run(self) -> None:
        """Settle until cancelled. If it is run again, it resends the interrupted call unchanged."""
        running: set[int] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._opened.clear()
                for shard in self._lanes.keys() - running:
                    group.create_task(self._lanes[shard].run())
                running = set(self._lanes)
                await self._opened.wait()

    async def flush(self, shard: int | None = None) -> None:
        """Wait until everything that was put so far is settled, in one shard or in all."""
        for lane in [lane for lane in self._lanes.values() if shard in (None, lane.shard)]:
            await lane.idle.wait()


class _Lane:
    """The settlements of one shard: one call at a time."""

    def __init__(self, settler: Settler, shard: int) -> None:
        self.shard = shard
        self.idle = asyncio.Event()
        self.idle.set()
        self._settler = settler
        self.waiting: dict[str, list[Ended]] = {}
        self._writers: dict[str, Writer] = {}
        self._wake = asyncio.Event()
        self._current: tuple[TypeShard, list[Ended]] | None = None
        self._sent: tuple[list[Ended], Call[list[bool]] | None] | None = None

    def begin(self, task_type: str) -> list[Ended]:
        """Return a new list for the outcomes of a type that wait to be settled."""
        waiting: list[Ended] = []
        self.waiting[task_type] = waiting
        self.idle.clear()
        self._wake.set()
        return waiting

    async def run(self) -> None:
        """Settle until cancelled."""
        while True:
            if self._current is not None:
                await self._settle(*self._current)
            while self.waiting:
                task_type = next(iter(self.waiting))
                waiting = self.waiting.pop(task_type)
                size = _size(waiting)
                if len(waiting) > size:
                    self.waiting[task_type] = waiting[size:]
                await self._settle((task_type, self.shard), waiting[:size])
            self.idle.set()
            await self._wake.wait()
            self._wake.clear()

    async def _settle(self, type_shard: TypeShard, batch: list[Ended]) -> None:
        self._current = type_shard, batch
        try:
            settled = await self._send(type_shard, batch)
        except RedisError as error:
            # Not recoverable here: the leases run out and other workers take the tasks.
            fields = {"type": type_shard[0], "tasks": len(batch), "error": str(error)}
            self._settler.log.error("task.settle_failed", **fields)  # noqa: TRY400 - the message suffices
            self._settler.counters.count("streamq_redis_errors_total", "settle")
        else:
            self._report(batch, settled)
        self._current = self._sent = None
        places = [held.delivery.place for held, _ in batch if not held.fenced]
        self._settler.in_flight.remove(type_shard, places)
        self._settler.freed()

    def _report(self, batch: list[Ended], settled: list[bool]) -> None:
        """Report the stored outcomes, and those that were dropped because their delivery is fenced."""
        if all(settled):
            self._settler.settled(batch)
            return
        results = list(zip(batch, settled, strict=True))
        self._report_fenced([ended for ended, stored in results if not stored])
        self._settler.settled([ended for ended, stored in results if stored])

    def _report_fenced(self, fenced: list[Ended]) -> None:
        for held, outcome in fenced:
            task_type = held.delivery.type
            self._settler.counters.count("streamq_leases_lost_total", self._settler.app, task_type)
            self._settler.attempt_log.fenced(held, outcome)

    async def _send(self, type_shard: TypeShard, batch: list[Ended]) -> list[bool]:
        """Settle a batch. Return for each delivery whether its outcome was stored. A retry resends the same
        call; if deliveries were fenced meanwhile, it sends a new call without them."""
        pause = FIRST_PAUSE
        kept, call = self._sent or (batch, None)
        while True:
            if any(held.fenced for held, _ in kept):
                kept, call = [ended for ended in kept if not ended[0].fenced], None
            if not kept:
                return [False] * len(batch)
            call = call or self._call(type_shard, kept)
            self._sent = kept, call
            try:
                settled = await self._try(call)
            except RedisUnavailable as error:
                self._settler.log.warning("redis.unavailable", doing="settle", error=str(error))
                self._settler.counters.count("streamq_redis_errors_total", "settle")
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
                await wait_until_ready(self._settler.transport, call.keys[0])
                self._settler.counters.count("streamq_redis_reconnects_total", "settle")
            else:
                if kept is batch:
                    return settled
                stored = {held: is_stored for (held, _), is_stored in zip(kept, settled, strict=True)}
                return [stored.get(held, False) for held, _ in batch]

    def _call(self, type_shard: TypeShard, batch: list[Ended]) -> Call[list[bool]]:
        task_type, shard = type_shard
        writer = self._writers.get(task_type)
        if writer is None:
            writer = self._writers[task_type] = Writer()
        keys = type_keys(self._settler.app, shard, task_type), shard_keys(self._settler.app, shard)
        settlements = [
            # Made without the function that fills in defaults, which would take twice as long.
            _new(
                Settlement,
                (
                    delivery.place,
                    delivery.local,
                    outcome,
                    delivery.claims != b"",
                    held.effects,
                    delivery.claims,
                ),
            )
            for held, outcome in batch
            for delivery in (held.delivery,)
        ]
        return worker_calls.settle(*keys, writer.id, writer.next(), settlements)

    async def _try(self, call: Call[list[bool]]) -> list[bool]:
        """Settle in the verified incarnation of the server."""
        servers = self._settler.servers
        try:
            return await self._settler.transport.run(call, patience=0, incarnation=servers.of(self.shard))
        except ServerChanged as changed:
            await servers.verify(self.shard, changed.incarnation)
            raise RedisUnavailable("the server restarted or failed over") from None


def _size(waiting: list[Ended]) -> int:
    """Return how many outcomes go into the next call: fewer if they have follow-ups, which are tasks to write
    as well, or are nodes of flows."""
    if not [1 for held, _ in waiting[:BATCH] if held.effects]:  # `any` would take twice as long
        return BATCH
    number = size = nodes = 0
    for n, (held, _) in enumerate(waiting[:BATCH]):
        for effect in held.effects:
            if isinstance(effect, Follow):
                number += len(effect.tasks)
                size += sum(len(one.task.payload) for one in effect.tasks)
            elif isinstance(effect, Continued):
                size += len(effect.task.payload)
            nodes += isinstance(effect, NodeResult)
        if n > 0 and (number > MOST_FOLLOW_UPS or size > MOST_BYTES or nodes > MOST_NODES):
            return n
    return BATCH


class _ForkedLanes(dict[int, _Lane]):
    """The lanes in a forked copy of the worker: access ends the process."""

    def get(self, *_: object) -> NoReturn:
        fork_guard.end_child()


_SETTLERS: weakref.WeakSet[Settler] = weakref.WeakSet()


def _after_fork() -> None:
    """Prevent a child that a handler forked from settling its parent's tasks."""
    for settler in _SETTLERS:
        settler.disown()


os.register_at_fork(after_in_child=_after_fork)
