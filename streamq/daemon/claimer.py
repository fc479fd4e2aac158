"""Takes abandoned deliveries back: XAUTOCLAIM, in bounded batches, with the cursor carried on.

Owns the rounds over all streams and the guard against clock jumps. What becomes of a task is decided
by the script, from the policy in Redis.
"""

from __future__ import annotations

import time
from typing import Final

from streamq import calls, telemetry
from streamq.daemon.directory import Directory
from streamq.daemon.loop import apart
from streamq.keys import TypeKeys
from streamq.transport import AsyncTransport, GroupMissing

START: Final = "0-0"
CLAIMER: Final = "claimer"
"""The consumer under whose name deliveries pass through the script. It never holds one afterwards."""


class Claimer:
    """Reclaims for all types, once a round."""

    def __init__(self, transport: AsyncTransport, directory: Directory, batch: int) -> None:
        self._transport = transport
        self._directory = directory
        self._batch = batch
        self._clock: tuple[int, float] | None = None
        self._log = telemetry.get_logger(chore="reclaim")

    async def round(self) -> None:
        """Look at every stream where something is held."""
        for _, types in self._directory.shards():
            for found in await self._directory.survey(types):
                if found.pending > 0:
                    with apart(self._log, type=found.keys.type):
                        await self._stream(found.keys, found.letter)

    async def _stream(self, keys: TypeKeys, letter: str) -> None:
        cursor = START
        while True:
            call = calls.reclaim(keys, letter, CLAIMER, cursor, self._batch, self._expected())
            reclaim = await self._transport.run(call, patience=0)
            self._clock = (reclaim.now_ms, time.monotonic())
            if reclaim.skew:
                self._log.error(
                    "server.clock_jumped", fix="check the server's time service; leases are renewed"
                )
                await self._restamp_all()
                return
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

    def _expected(self) -> int:
        """Where the server's clock should be, by the last answer and our monotonic clock."""
        if self._clock is None:
            return 0
        then_ms, then = self._clock
        return then_ms + round((time.monotonic() - then) * 1000)

    async def _restamp_all(self) -> None:
        """Idle times mean nothing after a jump: every delivery gets one full lease from now."""
        for keys in self._directory.types():
            for _, stream in calls.all_streams(keys):
                cursor = "-"
                while cursor:
                    try:
                        last = await self._transport.run(calls.restamp(stream, cursor, self._batch))
                    except GroupMissing:
                        break
                    cursor = f"({last}" if last else ""
