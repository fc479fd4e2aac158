"""The claimer: reclaims the deliveries of silent workers, in bounded batches with a cursor.

Owns the rounds over all streams and the guard against clock jumps. Must not decide a task's outcome: the
script does, from the policy in Redis.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls.call import all_streams
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors, log_fields
from streamq.keys import TypeKeys, shard_keys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import GroupMissing

START: Final = "0-0"
UNREAD: Final = (
    "is not a hash: tasks of dead workers are reclaimed by the default lease and max_losses. Rename the key: "
    "the next worker or producer that starts writes the policy again."
)


class Claimer:
    """Reclaims deliveries of all types, once per round."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery, batch: int) -> None:
        self._transport = transport
        self._discovery = discovery
        self._batch = batch
        self._clocks: dict[tuple[str, int], tuple[int, float]] = {}
        self._log = logs.get_logger(chore="reclaim")

    async def round(self, faults: Faults) -> None:
        """Reclaim in every stream that has pending deliveries."""
        shards = [types for _, types in self._discovery.shards()]
        await for_each(shards, lambda types: self._shard(types, faults), faults)

    async def _shard(self, types: list[TypeKeys], faults: Faults) -> None:
        for found in await self._discovery.survey(types):
            if found.pending > 0:
                with isolate_errors(faults, **log_fields(found.keys)):
                    await self._stream(found.keys, found.letter, faults)

    async def _stream(self, keys: TypeKeys, letter: str, faults: Faults) -> None:
        cursor, shard = START, (keys.app, keys.shard)
        while True:
            call = daemon_calls.reclaim(
                keys, shard_keys(*shard), letter, cursor, self._batch, self._expected(shard)
            )
            reclaim = await self._transport.run(call, patience=0)
            self._clocks[shard] = (reclaim.now_ms, time.monotonic())
            if reclaim.skew:
                self._log.error(
                    "server.clock_jumped", fix="check the server's time service; leases are renewed"
                )
                await self._restamp_all(shard, faults)
                return
            if reclaim.unread:
                faults.add(log_fields(keys), f"{keys.policy} {UNREAD}")
            if reclaim.returned or reclaim.dead or reclaim.cancelled:
                self._log.warning(
                    "tasks.reclaimed",
                    type=keys.type,
                    returned=reclaim.returned,
                    dead=reclaim.dead,
                    cancelled=reclaim.cancelled,
                )
            cursor = reclaim.cursor
            if cursor == START:
                return

    def _expected(self, shard: tuple[str, int]) -> int:
        """Return the time that the shard's server should have: its last reply plus the time since then.

        Each shard may be on a different server, and may move to another one in a failover. For idle times
        that is a clock jump like any other.
        """
        if shard not in self._clocks:
            return 0
        then_ms, then = self._clocks[shard]
        return then_ms + round((time.monotonic() - then) * 1000)

    async def _restamp_all(self, shard: tuple[str, int], faults: Faults) -> None:
        """Give every delivery of the shard a full lease from now: after a clock jump idle times are wrong."""
        for keys in [keys for keys in self._discovery.types() if (keys.app, keys.shard) == shard]:
            for _, stream in all_streams(keys):
                with isolate_errors(faults, **log_fields(keys)), suppress(GroupMissing):
                    await self._restamp(stream)

    async def _restamp(self, stream: str) -> None:
        cursor = "-"
        while cursor:
            last = await self._transport.run(daemon_calls.restamp(stream, cursor, self._batch))
            cursor = f"({last}" if last else ""
