"""The queue as a daemon sees it: what is ready, running, scheduled and dead, and who works on it.

Owns that look: bounded, shared by whoever asks at the same time, and kept for a moment. What is wrong with
one app, shard or type is told and keeps no other from being seen. Writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from streamq.calls import listing as listing_calls
from streamq.calls import question as question_calls
from streamq.control.heartbeats import workers
from streamq.control.overview import KEPT, SCRAPED, Row, View, memory, scraped, stats_of, tally
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each
from streamq.errors import RedisError
from streamq.flow import adrive
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.reply import Counts
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

LEFT_OUT: Final = "streamq forget removes types that nobody uses; streamq stats TYPE asks about one"


class Backlog:
    """Looks at every type of every shard."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery, chore_status: ChoreStatus) -> None:
        self._transport = transport
        self._discovery = discovery
        self._chore_status = chore_status
        self._lock = asyncio.Lock()
        self._view, self._seen = View(), 0.0
        self._left_out = 0
        self._log = logs.get_logger()

    async def look(self) -> View:
        """What there is, at most `KEPT` seconds old."""
        async with self._lock:
            if time.monotonic() - self._seen > KEPT:
                self._view, self._seen = await self._fresh(), time.monotonic()
            return self._view

    async def _fresh(self) -> View:
        try:
            faults = Faults("watch", self._chore_status)
            shards = [shard for shard, _ in self._discovery.shards()]
            chosen, more = chosen_types(self._discovery.types(), SCRAPED)
            self._tell(more)
            rows, working = await self._rows(shards, chosen, faults), await self._workers(shards, faults)
            seen = await adrive(self._transport, memory(shard.types for shard in shards), patience=0)
            return View(rows, working, seen, more)
        except RedisError:
            return View()

    def _tell(self, more: int) -> None:
        """Say once that types are left out: their alerts and autoscalers would be silent for no reason."""
        if more and not self._left_out:
            self._log.warning("queue.types_left_out", types=more, looked_at=SCRAPED, fix=LEFT_OUT)
        self._left_out = more

    async def _rows(
        self, shards: Sequence[ShardKeys], chosen: Sequence[TypeKeys], faults: Faults
    ) -> list[Row]:
        """A type that cannot be counted in one of its shards has no row: a part would be taken for all."""
        counted: dict[tuple[str, str], list[Counts]] = {}
        unreadable: set[tuple[str, str]] = set()

        async def count(keys: TypeKeys) -> None:
            unreadable.add((keys.app, keys.type))
            found = await self._transport.run(question_calls.counts(keys), patience=0)
            counted.setdefault((keys.app, keys.type), []).append(found)
            unreadable.discard((keys.app, keys.type))

        for keys in chosen:
            if (keys.app, keys.type) not in unreadable:
                await for_each([keys], count, faults)
        paused = await self._paused(shards, faults)
        return [
            scraped(app, stats_of(name, found), paused=(app, name) in paused)
            for (app, name), found in counted.items()
            if (app, name) not in unreadable
        ]

    async def _workers(self, shards: Sequence[ShardKeys], faults: Faults) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}

        async def look(shard: ShardKeys) -> None:
            found[shard.app] = tally(())
            found[shard.app] = tally(await adrive(self._transport, workers(shard.app), patience=0))

        await for_each([shard for shard in shards if shard.shard == 0], look, faults)
        return found

    async def _paused(self, shards: Sequence[ShardKeys], faults: Faults) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()

        async def look(shard: ShardKeys) -> None:
            names = await self._transport.run(listing_calls.paused(shard), patience=0)
            found.update((shard.app, name) for name in names)

        await for_each(shards, look, faults)
        return found


def chosen_types(types: Sequence[TypeKeys], most: int) -> tuple[list[TypeKeys], int]:
    """So many keys at most, each type with all its shards, and how many types are left out: the apps in turn,
    so that the types of one crowd out no other."""
    shards: dict[tuple[str, str], list[TypeKeys]] = {}
    for keys in types:
        shards.setdefault((keys.app, keys.type), []).append(keys)
    if len(types) <= most:
        return list(types), 0
    turn: Counter[str] = Counter()
    order: list[tuple[int, tuple[str, str]]] = []
    for place in shards:
        order.append((turn[place[0]], place))
        turn[place[0]] += 1
    chosen: list[TypeKeys] = []
    left_out = 0
    for _, place in sorted(order):
        if len(chosen) + len(shards[place]) <= most:
            chosen += shards[place]
        else:
            left_out += 1
    return chosen, left_out
