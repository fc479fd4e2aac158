"""Lets flows go on that no worker advanced, and looks after their keys.

Owns when: a row of the inbox that has waited for `PATIENCE` was left behind. What the steps are is in
`flows.advancing` and `flows.keeping`; any number of daemons may take them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from streamq.calls import flows as flow_calls
from streamq.calls.flows import InboxRow
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, isolate_errors, pause
from streamq.flow import adrive
from streamq.flows.advancing import advance
from streamq.flows.keeping import keep
from streamq.keys import ShardKeys
from streamq.transport.async_transport import AsyncTransport

INTERVAL: Final = 1.0
"""Seconds between two looks."""
PATIENCE_MS: Final = 1_500
"""Ms after which a row was left behind: workers take theirs at once."""
PAGE: Final = 500
KEEP_INTERVAL: Final = 5.0
IDLE_INTERVAL: Final = 10.0
"""Seconds between two looks at a shard without flows: daemons are needed only if no worker went on."""


class FlowKeeper:
    """Serves the flows of all shards."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery) -> None:
        self._transport, self._discovery = transport, discovery
        self._keep_at = 0.0
        self._idle_until: dict[str, float] = {}
        # Where the next page begins: rows that cannot be worked off must not hold up those behind them.
        self._inbox_at: dict[str, int] = {}
        self._due_at: dict[str, int] = {}

    async def round(self, faults: Faults) -> None:
        """Advance what was left behind, and look after what is due."""
        now = time.monotonic()
        keeping = now >= self._keep_at
        if keeping:
            self._keep_at = now + KEEP_INTERVAL
        shards = [shard for shard, _ in self._discovery.shards()]
        await for_each(shards, lambda shard: self._shard(shard, faults, keeping=keeping), faults)

    async def wait(self, stop: asyncio.Event) -> None:
        """Wait until the next look."""
        await pause(stop, INTERVAL)

    async def _shard(self, shard: ShardKeys, faults: Faults, *, keeping: bool) -> None:
        if time.monotonic() < self._idle_until.get(shard.flows, 0.0):
            return  # asked rarely as long as it has no flows
        offset = self._inbox_at.pop(shard.inbox, 0)
        behind = await self._transport.run(flow_calls.behind(shard, PATIENCE_MS, PAGE, offset), patience=0)
        if not behind.there and not behind.rows:
            self._idle_until[shard.flows] = time.monotonic() + IDLE_INTERVAL
            return
        if len(behind.rows) == PAGE:
            self._inbox_at[shard.inbox] = offset + PAGE
        await self._advance(shard, behind.rows, faults)
        if keeping:
            await self._keep(shard, behind.now, faults)

    async def _advance(self, shard: ShardKeys, found: Iterable[InboxRow], faults: Faults) -> None:
        rows: dict[str, list[str]] = {}
        for one in found:
            rows.setdefault(one.flow, []).append(one.what)
        for flow, what in rows.items():
            with isolate_errors(faults, app=shard.app, shard=shard.shard, flow=flow):
                ends = [row for row in what if row != "look"]
                await adrive(self._transport, advance(shard, flow, ends, reads=False), patience=0)

    async def _keep(self, shard: ShardKeys, now_ms: int, faults: Faults) -> None:
        offset = self._due_at.pop(shard.flows, 0)
        due = await self._transport.run(flow_calls.due(shard, now_ms, PAGE, offset), patience=0)
        if len(due) == PAGE:
            self._due_at[shard.flows] = offset + PAGE
        for flow in due:
            with isolate_errors(faults, app=shard.app, shard=shard.shard, flow=flow):
                await adrive(self._transport, keep(shard, flow, now_ms), patience=0)
