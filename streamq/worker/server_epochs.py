"""The server epochs: the incarnation of its server in which each shard's deliveries were verified.

A server that restarted, or a replica that was promoted, may have lost writes and reused the ids of entries
for other tasks. So nothing is fetched from a new incarnation, and nothing settled in it, before it was asked
which of the deliveries in flight are pending there for this worker. The others are fenced: they are not
settled, and another worker runs those tasks again.

Owns that check. Must not know connections: its callers report a change, and the transport refuses calls for
another incarnation.
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
from streamq.worker.in_flight import Held, InFlight, TypeShard, chunks

CHUNK: Final = 50
_VERIFYING: Final = "verifying"
"""Matches no incarnation, so that no other call succeeds during the check."""


class ServerEpochs:
    """The server epochs of one worker process. `fenced` takes the deliveries that the check has fenced."""

    def __init__(
        self,
        config: WorkerConfig,
        in_flight: InFlight,
        fenced: Callable[[list[Held]], None],
    ) -> None:
        self._transport, self._app = config.transport, config.registry.name
        self._consumer = config.name
        self._in_flight = in_flight
        self._fenced = fenced
        self._known: dict[int, str] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._log = logs.get_logger(worker=config.name)

    def of(self, shard: int) -> str:
        """Return the verified incarnation of a shard's server; '' before the first check."""
        return self._known.get(shard, "")

    async def verify(self, shard: int, incarnation: str) -> bool:
        """Ask a new incarnation which deliveries are still assigned to this worker, and fence the others.
        Return whether a previous incarnation was known. Raise RedisError, also if the server changes again
        meanwhile: nothing is settled until the check has succeeded."""
        async with self._locks.setdefault(shard, asyncio.Lock()):
            before = self.of(shard)
            if before == incarnation:
                return False
            self._known[shard] = _VERIFYING
            try:
                fenced = await self._verify_all(shard, incarnation)
            except ServerChanged:
                raise RedisUnavailable("the server restarted or failed over again") from None
            self._known[shard] = incarnation
        if before:
            self._log.warning("server.changed", shard=shard, fenced=fenced)
        return bool(before)

    async def _verify_all(self, shard: int, incarnation: str) -> int:
        fenced = 0
        for type_shard in self._in_flight.type_shards():
            if type_shard[1] == shard:
                for chunk in chunks(self._in_flight.snapshot(type_shard), CHUNK):
                    fenced += await self._verify(type_shard, chunk, incarnation)
        return fenced

    async def _verify(self, type_shard: TypeShard, held: list[Held], incarnation: str) -> int:
        """Verify deliveries of one type, and return how many were fenced."""
        task_type, shard = type_shard
        pairs = [(one.delivery.place, one.delivery.local) for one in held]
        call = worker_calls.renew(type_keys(self._app, shard, task_type), self._consumer, pairs)
        renewal = await self._transport.run(call, patience=0, incarnation=incarnation)
        places = set(renewal.fenced)
        fenced = [one for one in held if one.delivery.place in places]
        for one in fenced:
            one.fenced = True
        self._fenced(fenced)
        return len(fenced)
