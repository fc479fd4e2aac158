"""Keeps lanes and rules right beside processes of older releases: counts anew what lanes hold, where
something may have ended a task without giving its slot back, and puts rules into force that were held.

Owns when. A count: a script saw that an entry was deleted behind its back, or processes of a release that
does not know lanes are alive. Those hand tasks of lanes back, but what they end themselves keeps its slot.
Rules: no process that cannot obey them serves the type any more (see `registering`). Must not change anything
else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from streamq import registering
from streamq.audit.recount import recount
from streamq.calls import daemon as daemon_calls
from streamq.calls import producer as producer_calls
from streamq.calls.daemon import Lanes
from streamq.control.heartbeats import daemons, workers
from streamq.daemon.discovery import TYPES_AT_ONCE, Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors
from streamq.features import LANES
from streamq.flow import adrive
from streamq.heartbeat import WorkerInfo
from streamq.keys import TypeKeys, shard_keys
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

AGAIN: Final = 60.0
"""Seconds between two counts while older processes are alive."""


class Recounter:
    """Counts what the lanes of each task type hold, where that is needed."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery) -> None:
        self._transport = transport
        self._discovery = discovery
        self._counted_at: dict[str, float] = {}
        self._log = logs.get_logger(chore="recount")

    async def round(self, faults: Faults) -> None:
        """Look at every type that has lanes. Nothing is asked of the others but whether they have."""
        ruled: dict[TypeKeys, Lanes] = {}
        for types in self._discovery.batches(TYPES_AT_ONCE):
            with isolate_errors(faults, app=types[0].app, shard=types[0].shard):
                found = await self._transport.run(daemon_calls.next_promotion(types), patience=0)
                ruled |= {keys: lanes for keys, lanes in zip(types, found[1], strict=True) if lanes}
        await for_each(
            [keys for keys, lanes in ruled.items() if lanes & Lanes.UNENFORCED], self._enforce, faults
        )
        laned = {keys: lanes for keys, lanes in ruled.items() if lanes & Lanes.THERE}
        if not laned:
            return
        doubtful = await self._doubtful({keys.app for keys in laned})
        wanted = [keys for keys, lanes in laned.items() if lanes & Lanes.UNCOUNTED or keys.app in doubtful]
        await for_each(wanted, self._recount, faults)

    async def _enforce(self, keys: TypeKeys) -> None:
        found = await adrive(self._transport, registering.processes(keys.app))
        lacking = registering.lacking(found, keys.type)
        shard = shard_keys(keys.app, keys.shard)
        if await self._transport.run(producer_calls.enforce(keys, shard, lacking), patience=0):
            self._log.info("policy.enforced", type=keys.type, shard=keys.shard)

    async def _doubtful(self, apps: set[str]) -> set[str]:
        """Return the apps that an older process serves, unless they were counted a moment ago, and those that
        one served until now."""
        namespace = self._discovery.transport.address.namespace
        everywhere = older(await adrive(self._transport, daemons(namespace)))
        found: set[str] = set()
        for app in apps:
            served = any(one.details.get("only") in (None, app) for one in everywhere)
            if served or older(await adrive(self._transport, workers(app))):
                if time.monotonic() - self._counted_at.get(app, -AGAIN) >= AGAIN:
                    self._counted_at[app] = time.monotonic()
                    found.add(app)
            elif self._counted_at.pop(app, None) is not None:
                found.add(app)
        return found

    async def _recount(self, keys: TypeKeys) -> None:
        if wrong := await adrive(self._transport, recount(keys)):
            self._log.warning("lanes.recounted", type=keys.type, shard=keys.shard, lanes=len(wrong))


def older(found: Iterable[WorkerInfo]) -> list[WorkerInfo]:
    """Return the living processes of a release that does not know lanes."""
    return [one for one in found if one.alive and LANES not in one.details.get("speaks", ())]
