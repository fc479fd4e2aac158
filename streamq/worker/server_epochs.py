"""Which incarnation of its server each shard's deliveries are known to be ours in.

A server that restarted, or the replica that took its place, may have lost writes and given the ids of
our entries to other tasks. So nothing is fetched from another incarnation, and nothing settled in it,
before it was asked which of the deliveries in hand are pending there under our own name. The others are
lost: they end unsettled, and somebody runs those tasks anew.

Owns that question. Knows no connection: whoever has one tells, and the transport holds calls to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from streamq.calls import worker as worker_calls
from streamq.errors import RedisUnavailable
from streamq.keys import type_keys
from streamq.telemetry import logs
from streamq.transport.faults import ServerChanged
from streamq.worker.config import WorkerConfig
from streamq.worker.in_flight import Held, InFlight, Line, chunks

CHUNK: Final = 50
_MOVING: Final = "moving"
"""While the question is open no incarnation is the right one, so that nobody goes on without it."""


class ServerEpochs:
    """What one worker process knows. `fenced` is told what is no longer ours."""

    def __init__(
        self,
        given: WorkerConfig,
        in_flight: InFlight,
        fenced: Callable[[list[Held]], None],
    ) -> None:
        self._transport, self._app = given.transport, given.registry.name
        self.consumer: str = given.name
        self._in_flight = in_flight
        self._fenced = fenced
        self._known: dict[int, str] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._log = logs.get_logger(worker=given.name)

    def of(self, shard: int) -> str:
        """The incarnation that calls about deliveries of this shard are meant for; '' before the first."""
        return self._known.get(shard, "")

    async def move(self, shard: int, incarnation: str) -> bool:
        """Ask the new incarnation what is still ours. Answers whether there was another before. Raises
        RedisErrors, also where it is another once more: nothing is settled until it has been asked."""
        async with self._locks.setdefault(shard, asyncio.Lock()):
            before = self.of(shard)
            if before == incarnation:
                return False
            self._known[shard] = _MOVING
            try:
                fenced = await self._ask_all(shard, incarnation)
            except ServerChanged:
                raise RedisUnavailable("the server restarted or failed over once more") from None
            self._known[shard] = incarnation
        if before:
            self._log.warning("server.changed", shard=shard, fenced=fenced)
        return bool(before)

    async def _ask_all(self, shard: int, incarnation: str) -> int:
        fenced = 0
        for line in self._in_flight.lines():
            if line[1] == shard:
                for chunk in chunks(self._in_flight.snapshot(line), CHUNK):
                    fenced += await self._ask(line, chunk, incarnation)
        return fenced

    async def _ask(self, line: Line, held: list[Held], incarnation: str) -> int:
        task_type, shard = line
        pairs = [(one.delivery.place, one.delivery.local) for one in held]
        call = worker_calls.renew(type_keys(self._app, shard, task_type), self.consumer, pairs)
        renewal = await self._transport.run(call, patience=0, incarnation=incarnation)
        places = set(renewal.fenced)
        fenced = [one for one in held if one.delivery.place in places]
        for one in fenced:
            one.fenced = True
        self._fenced(fenced)
        return len(fenced)
