"""The only writer of outcomes: gathers them and settles in batches, whatever the weather.

Owns the group commit of settlements: what finishes while a call is under way goes out in the next. Each
shard has a lane of its own, so that one whose server is away holds up no other. A delivery that is no
longer ours writes nothing. Knows no handler.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import Any, Final, NoReturn

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import shard_keys, type_keys
from streamq.model.outcome import Outcome, Settlement
from streamq.telemetry import logs
from streamq.telemetry.counters import Counters
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import ServerChanged
from streamq.transport.server_wait import returned
from streamq.transport.writer import Writer
from streamq.worker import fork_guard
from streamq.worker.attempt_log import AttemptLog
from streamq.worker.config import WorkerConfig
from streamq.worker.in_flight import Held, InFlight, Line
from streamq.worker.server_epochs import ServerEpochs

BATCH: Final = 200
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries on a server that answers, but not what it should (loading, read only)."""

Ended = tuple[Held, Outcome]


class Settler:
    """Settles deliveries of one worker process. `settled` is told of what the server has stored."""

    def __init__(
        self,
        given: WorkerConfig,
        in_flight: InFlight,
        servers: ServerEpochs,
        attempt_log: AttemptLog,
        freed: Callable[[], None],
        settled: Callable[[list[Ended]], None],
    ) -> None:
        self.transport: AsyncTransport = given.transport
        self.app: str = given.registry.name
        self.counters: Counters = given.counters
        self.in_flight = in_flight
        self.servers = servers
        self.freed = freed
        self.attempt_log = attempt_log
        self.settled = settled
        self.log: Any = logs.get_logger(worker=given.name)
        self._lanes: dict[int, _Lane] = {}
        self._opened = asyncio.Event()
        _SETTLERS.add(self)

    def put(self, held: Held, outcome: Outcome) -> None:
        """Settle this delivery soon. It stays in the book until the server has said so."""
        delivery = held.delivery
        lane = self._lanes.get(delivery.shard)
        if lane is None:
            lane = self._open(delivery.shard)
        waiting = lane.waiting.get(delivery.type)
        if waiting is None:
            waiting = lane.begin(delivery.type)
        waiting.append((held, outcome))

    def disown(self) -> None:
        """Settle nothing from now on: whoever tries is a copy of this process, and is ended."""
        self._lanes = _NotOurs()

    def _open(self, shard: int) -> _Lane:
        lane = self._lanes[shard] = _Lane(self, shard)
        self._opened.set()
        return lane

    async def run(self) -> None:
        """Settle until cancelled. Run anew, it sends what was under way again, as the same call."""
        running: set[int] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._opened.clear()
                for shard in self._lanes.keys() - running:
                    group.create_task(self._lanes[shard].run())
                running = set(self._lanes)
                await self._opened.wait()

    async def flush(self, shard: int | None = None) -> None:
        """Return when everything that was put has been settled, of one shard or of all."""
        for lane in [lane for lane in self._lanes.values() if shard in (None, lane.shard)]:
            await lane.idle.wait()


class _Lane:
    """The settlements of one shard: one call at a time, through outages of any length."""

    def __init__(self, settler: Settler, shard: int) -> None:
        self.shard = shard
        self.idle = asyncio.Event()
        self.idle.set()
        self._settler = settler
        self.waiting: dict[str, list[Ended]] = {}
        self._writers: dict[str, Writer] = {}
        self._wake = asyncio.Event()
        self._under_way: tuple[Line, list[Ended]] | None = None
        self._sent: tuple[list[Ended], Call[list[bool]] | None] | None = None

    def begin(self, task_type: str) -> list[Ended]:
        """A new list of what waits to be settled of a type."""
        waiting: list[Ended] = []
        self.waiting[task_type] = waiting
        self.idle.clear()
        self._wake.set()
        return waiting

    async def run(self) -> None:
        while True:
            if self._under_way is not None:
                await self._settle(*self._under_way)
            while self.waiting:
                task_type = next(iter(self.waiting))
                waiting = self.waiting.pop(task_type)
                if len(waiting) > BATCH:
                    self.waiting[task_type] = waiting[BATCH:]
                await self._settle((task_type, self.shard), waiting[:BATCH])
            self.idle.set()
            await self._wake.wait()
            self._wake.clear()

    async def _settle(self, line: Line, batch: list[Ended]) -> None:
        self._under_way = line, batch
        try:
            settled = await self._send(line, batch)
        except RedisError as error:
            # Nothing that we could mend: the leases will run out and others take the tasks.
            told = {"type": line[0], "tasks": len(batch), "error": str(error)}
            self._settler.log.error("task.settle_failed", **told)  # noqa: TRY400 - the server's words say it
            self._settler.counters.count("streamq_redis_errors_total", "settle")
        else:
            self._tell(batch, settled)
        self._under_way = self._sent = None
        self._settler.in_flight.remove(line, [held.delivery.place for held, _ in batch if not held.fenced])
        self._settler.freed()

    def _tell(self, batch: list[Ended], settled: list[bool]) -> None:
        if all(settled):
            self._settler.settled(batch)
            return
        answers = list(zip(batch, settled, strict=True))
        self._tell_lost([ended for ended, ours in answers if not ours])
        self._settler.settled([ended for ended, ours in answers if ours])

    def _tell_lost(self, lost: list[Ended]) -> None:
        for held, outcome in lost:
            task_type = held.delivery.type
            self._settler.counters.count("streamq_leases_lost_total", self._settler.app, task_type)
            self._settler.attempt_log.lost(held, outcome)

    async def _send(self, line: Line, batch: list[Ended]) -> list[bool]:
        """Settle. Answers for each whether the delivery was ours. The same call is sent again, but for
        deliveries that turn out to be lost meanwhile: then it is another."""
        pause = FIRST_PAUSE
        kept, call = self._sent or (batch, None)
        while True:
            if any(held.fenced for held, _ in kept):
                kept, call = [ended for ended in kept if not ended[0].fenced], None
            if not kept:
                return [False] * len(batch)
            call = call or self._call(line, kept)
            self._sent = kept, call
            try:
                settled = await self._try(call)
            except RedisUnavailable as error:
                self._settler.log.warning("redis.unavailable", doing="settle", error=str(error))
                self._settler.counters.count("streamq_redis_errors_total", "settle")
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
                await returned(self._settler.transport, call.keys[0])
                self._settler.counters.count("streamq_redis_reconnects_total", "settle")
            else:
                if kept is batch:
                    return settled
                answers = {held: ours for (held, _), ours in zip(kept, settled, strict=True)}
                return [answers.get(held, False) for held, _ in batch]

    def _call(self, line: Line, batch: list[Ended]) -> Call[list[bool]]:
        task_type, shard = line
        writer = self._writers.get(task_type)
        if writer is None:
            writer = self._writers[task_type] = Writer()
        keys = type_keys(self._settler.app, shard, task_type), shard_keys(self._settler.app, shard)
        settlements = [
            Settlement(
                held.delivery.place, held.delivery.local, outcome, held.delivery.claims != b"", held.effects
            )
            for held, outcome in batch
        ]
        return worker_calls.settle(*keys, writer.id, writer.next(), settlements)

    async def _try(self, call: Call[list[bool]]) -> list[bool]:
        """Settle in the incarnation where the deliveries are known to be ours."""
        servers = self._settler.servers
        try:
            return await self._settler.transport.run(call, patience=0, incarnation=servers.of(self.shard))
        except ServerChanged as changed:
            await servers.move(self.shard, changed.incarnation)
            raise RedisUnavailable("the server restarted or failed over") from None


class _NotOurs(dict[int, _Lane]):
    """The lanes of another process."""

    def get(self, *_: Any) -> NoReturn:
        fork_guard.end_child()


_SETTLERS: weakref.WeakSet[Settler] = weakref.WeakSet()


def _after_fork() -> None:
    """A child that a handler forked settles nothing: what it runs is its parent's."""
    for settler in _SETTLERS:
        settler.disown()


os.register_at_fork(after_in_child=_after_fork)
