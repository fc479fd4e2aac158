"""Ends tasks whose time is over before a worker took them: ready, scheduled or waiting to be retried.

Owns the rounds. What is expired is decided by the script, from the rows that enqueue has noted; a type
without such rows costs its part of one look at many types.
"""

from __future__ import annotations

from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, about, for_each, isolate_errors
from streamq.keys import TypeKeys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

TYPES_AT_ONCE: Final = 50


class Expirer:
    """Looks at all types, once a round."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery, batch: int) -> None:
        self._transport = transport
        self._discovery = discovery
        self._batch = batch
        self._log = logs.get_logger(chore="expire")

    async def round(self, faults: Faults) -> None:
        """End what has expired, of every type."""
        bundles = self._discovery.bundles(TYPES_AT_ONCE)
        await for_each(bundles, lambda types: self._look(types, faults), faults)

    async def _look(self, types: list[TypeKeys], faults: Faults) -> None:
        found = await self._transport.run(daemon_calls.next_expiry(types), patience=0)
        for keys, left_ms in zip(types, found, strict=True):
            if left_ms is not None and left_ms <= 0:
                with isolate_errors(faults, **about(keys)):
                    await self._expire(keys)

    async def _expire(self, keys: TypeKeys) -> None:
        """Batch by batch."""
        while True:
            looked, expired = await self._transport.run(daemon_calls.expire(keys, self._batch), patience=0)
            if expired:
                self._log.info("tasks.expired", app=keys.app, type=keys.type, tasks=expired)
            if looked < self._batch:
                return
