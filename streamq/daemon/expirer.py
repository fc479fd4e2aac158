"""The expirer: ends tasks that expire before a worker takes them, whether ready, scheduled or to be retried.

Owns the rounds. Must not decide what has expired: the script does, from the rows that enqueue wrote. A type
without such rows costs only its share of one call for many types.
"""

from __future__ import annotations

from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors, log_fields
from streamq.keys import TypeKeys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

TYPES_AT_ONCE: Final = 50


class Expirer:
    """Expires tasks of all types, once per round."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery, batch: int) -> None:
        self._transport = transport
        self._discovery = discovery
        self._batch = batch
        self._log = logs.get_logger(chore="expire")

    async def round(self, faults: Faults) -> None:
        """Expire the tasks of every type."""
        batches = self._discovery.batches(TYPES_AT_ONCE)
        await for_each(batches, lambda types: self._expire_due(types, faults), faults)

    async def _expire_due(self, types: list[TypeKeys], faults: Faults) -> None:
        found = await self._transport.run(daemon_calls.next_expiry(types), patience=0)
        for keys, left_ms in zip(types, found, strict=True):
            if left_ms is not None and left_ms <= 0:
                with isolate_errors(faults, **log_fields(keys)):
                    await self._expire(keys)

    async def _expire(self, keys: TypeKeys) -> None:
        """Expire the tasks of one type, batch by batch."""
        while True:
            read, expired = await self._transport.run(daemon_calls.expire(keys, self._batch), patience=0)
            if expired:
                self._log.info("tasks.expired", app=keys.app, type=keys.type, tasks=expired)
            if read < self._batch:
                return
