"""The janitor: periodic housekeeping of leftovers that no other chore handles.

Owns the order of its steps: missing consumer groups, entries that no read finds, consumers of workers that
have ended, rows past their retention. Each step is one script in bounded batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import worker as worker_calls
from streamq.calls.call import SILENT_MS
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, in_batches, isolate_errors, log_fields
from streamq.keys import ShardKeys, TypeKeys
from streamq.options.service import DaemonOptions
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

LIMIT: Final = 100


class Janitor:
    """Tidies every type of every shard, once per round."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery, options: DaemonOptions) -> None:
        self._transport = transport
        self._discovery = discovery
        self._options = options
        self._log = logs.get_logger(chore="tidy")

    async def round(self, faults: Faults) -> None:
        """Tidy every shard."""
        await for_each(self._discovery.shards(), lambda listed: self._shard(listed, faults), faults)

    async def _shard(self, listed: tuple[ShardKeys, list[TypeKeys]], faults: Faults) -> None:
        shard, types = listed
        surveyed = await self._discovery.survey(types)
        with isolate_errors(faults, app=shard.app, shard=shard.shard):
            await self._groups([found.stream for found in surveyed if found.consumers < 0])
        for found in surveyed:
            with isolate_errors(faults, **log_fields(found.keys)):
                await self._tidy(found, shard)
        await in_batches(types, lambda some: self._trim(some, shard), faults)

    async def _tidy(self, found: daemon_calls.Survey, shard: ShardKeys) -> None:
        if found.length > 0:
            await self._repair(found.keys, found.letter)
        if found.consumers > 0:
            await self._sweep(found.stream, shard)

    async def _groups(self, missing: list[str]) -> None:
        if missing and (created := await self._transport.run(worker_calls.groups(missing), patience=0)):
            self._log.warning("groups.created", groups=created)

    async def _repair(self, keys: TypeKeys, letter: str) -> None:
        cursor = "-"
        while cursor:
            cursor, repaired = await self._transport.run(
                daemon_calls.repair(keys, letter, cursor, LIMIT), patience=0
            )
            if repaired:
                self._log.warning("tasks.repaired", type=keys.type, tasks=repaired)

    async def _sweep(self, stream: str, shard: ShardKeys) -> None:
        idle_ms = round(self._options.consumer_idle * 1000)
        if removed := await self._transport.run(
            daemon_calls.sweep(stream, shard, idle_ms, LIMIT), patience=0
        ):
            self._log.info("consumers.removed", stream=stream, consumers=removed)

    async def _trim(self, types: Sequence[TypeKeys], shard: ShardKeys) -> None:
        gone_ms = round(self._options.gone_retention * 1000)
        call = daemon_calls.trim(types, shard, gone_ms, SILENT_MS, LIMIT * 10)
        while await self._transport.run(call, patience=0) >= LIMIT * 10:
            pass
