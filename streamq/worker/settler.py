"""The only writer of outcomes: gathers them and settles in batches, whatever the weather.

Owns the group commit of settlements: what finishes while a call is under way goes out in the next. A
delivery that is no longer ours writes nothing. Knows no handler.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from streamq import calls, telemetry
from streamq.client import Writer
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import shard_keys, type_keys
from streamq.model import Outcome, Settlement
from streamq.telemetry.tally import Tally
from streamq.transport import AsyncTransport
from streamq.worker.holdings import Held, Holdings, Line

BATCH: Final = 200


class Settler:
    """Settles deliveries of one worker process."""

    def __init__(
        self,
        transport: AsyncTransport,
        app: str,
        consumer: str,
        holdings: Holdings,
        freed: Callable[[], None],
        tally: Tally,
    ) -> None:
        self._transport = transport
        self._app = app
        self._consumer = consumer
        self._holdings = holdings
        self._freed = freed
        self._tally = tally
        self._waiting: dict[Line, list[Settlement]] = {}
        self._writers: dict[Line, Writer] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._log = telemetry.get_logger(worker=consumer)

    def put(self, held: Held, outcome: Outcome) -> None:
        """Settle this delivery soon. It stays in the book until the server has said so."""
        task_type, shard, place, local, *_ = held.delivery
        waiting = self._waiting.get((task_type, shard))
        if waiting is None:
            waiting = self._waiting[(task_type, shard)] = []
            self._idle.clear()
            self._wake.set()
        waiting.append(Settlement(place, local, outcome))

    async def run(self) -> None:
        """Settle until cancelled; cancel it after `flush` only."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                line = next(iter(self._waiting))
                waiting = self._waiting.pop(line)
                if len(waiting) > BATCH:
                    self._waiting[line] = waiting[BATCH:]
                await self._settle(line, waiting[:BATCH])
            self._idle.set()

    async def flush(self) -> None:
        """Return when everything that was put has been settled."""
        await self._idle.wait()

    async def _settle(self, line: Line, batch: list[Settlement]) -> None:
        try:
            settled = await self._send(line, batch)
        except RedisError as error:
            # Nothing that we could mend: the leases will run out and others take the tasks.
            self._log.error("task.settle_failed", type=line[0], tasks=len(batch), error=str(error))
            self._tally.count("streamq_redis_errors_total", "settle")
            settled = [True] * len(batch)
        if not all(settled):
            self._tell_lost(line, [s for s, ours in zip(batch, settled, strict=True) if not ours])
        self._holdings.remove(line, [settlement.place for settlement in batch])
        self._freed()

    def _tell_lost(self, line: Line, settlements: list[Settlement]) -> None:
        self._tally.count("streamq_leases_lost_total", self._app, line[0], by=len(settlements))
        for settlement in settlements:
            self._log.warning(
                "task.lease_lost",
                task=f"{line[0]}:{line[1]}:{settlement.local}",
                outcome=type(settlement.outcome).__name__.lower(),
            )

    async def _send(self, line: Line, batch: list[Settlement]) -> list[bool]:
        """Settle, through outages of any length. Answers for each whether the delivery was ours."""
        writer = self._writers.setdefault(line, Writer())
        keys = type_keys(self._app, line[1], line[0]), shard_keys(self._app, line[1])
        call = calls.settle(*keys, writer.id, writer.next(), batch)
        while True:
            before = self._server()
            try:
                return await self._transport.run(call, patience=0)
            except RedisUnavailable as error:
                self._log.warning("redis.unavailable", doing="settle", error=str(error))
                self._tally.count("streamq_redis_errors_total", "settle")
            await self._transport.reconnect()
            self._tally.count("streamq_redis_reconnects_total", "settle")
            if self._server() != before:
                return await self._settle_again(line, batch)

    async def _settle_again(self, line: Line, batch: list[Settlement]) -> list[bool]:
        """After the server restarted or failed over.

        It may have lost writes and given our entries' ids to other tasks: what is not pending under our
        own name is dropped before anything is settled.
        """
        keys = type_keys(self._app, line[1], line[0])
        renewal = calls.renew(keys, self._consumer, [(s.place, s.local) for s in batch])
        lost = set((await self._transport.run(renewal, patience=float("inf"))).lost)
        kept = [settlement for settlement in batch if settlement.place not in lost]
        settled = iter(await self._send(line, kept) if kept else [])
        return [False if s.place in lost else next(settled) for s in batch]

    def _server(self) -> Any:
        info = self._transport.info
        return info.run_id if info is not None else None
