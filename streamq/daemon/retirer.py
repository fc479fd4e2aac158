"""The retirer: gives up shards that an app no longer uses, once they are empty.

Owns the order: read the record, close the last shard, lower the number of known shards. A producer that
still needs the shard finds it closed and reopens it, which this chore detects by the record's epoch.
"""

from __future__ import annotations

from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each
from streamq.keys import ShardKeys, shard_keys, type_keys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport


class Retirer:
    """Retires shards of every app whose code uses fewer shards than may hold tasks."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery) -> None:
        self._transport = transport
        self._discovery = discovery
        self._log = logs.get_logger(chore="retire")

    async def round(self, faults: Faults) -> None:
        """Retire the unused shards of every app."""
        found = await self._discovery.apps()
        shrunk = [
            app
            for app, record in found.items()
            if record.known > record.shards and self._discovery.serves(app)
        ]
        first = [shard_keys(app, 0) for app in shrunk]
        await for_each(first, lambda keys: self._retire(keys, faults), faults)

    async def _retire(self, first: ShardKeys, faults: Faults) -> None:
        """Retire the unused shards of one app."""
        retired = False
        while await self._retire_last(first.app):
            retired = True
        if retired:
            await self._discovery.refresh(faults)

    async def _retire_last(self, app: str) -> bool:
        """Retire the last known shard. Return False if it is in use or not empty."""
        record = await self._transport.run(producer_calls.app_record(app), patience=0)
        if record is None or record.known <= record.shards:
            return False
        last = record.known - 1
        keys = shard_keys(app, last)
        names = await self._transport.run(question_calls.types(keys), patience=0)
        close = daemon_calls.close_shard(keys, [type_keys(app, last, name) for name in names], record.epoch)
        if not await self._transport.run(close, patience=0):
            return False
        lowered = await self._transport.run(
            daemon_calls.lower_known(app, record.known, record.epoch), patience=0
        )
        if lowered:
            self._log.info("shard.retired", app=app, shard=last)
        return lowered
