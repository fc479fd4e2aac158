"""Counts the queue for metrics: tasks by state and workers, over all apps, shards and types.

Owns that view: bounded in size, shared by concurrent callers and cached for a moment. A fault of one app,
shard or type is reported and does not hide the others. Must not write to Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from streamq.calls import listing as listing_calls
from streamq.calls import question as question_calls
from streamq.control import scaling
from streamq.control.heartbeats import workers
from streamq.control.overview import KEPT, SCRAPED, Row, View, memory, scraped, stats_of, tally
from streamq.control.scaling import Pace
from streamq.daemon.chore_status import ChoreStatus
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each
from streamq.errors import RedisError
from streamq.flow import adrive
from streamq.heartbeat import WorkerInfo
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.counts import Counts
from streamq.telemetry import logs
from streamq.transport.async_transport import AsyncTransport

PACE_INTERVAL: Final = 15.0
"""Seconds for which the pace of a type is kept."""
LEFT_OUT_FIX: Final = "remove unused types with streamq forget; count a single one with streamq stats TYPE"


class Backlog:
    """The cached view over every type of every shard."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery, chore_status: ChoreStatus) -> None:
        self._transport = transport
        self._discovery = discovery
        self._chore_status = chore_status
        self._lock = asyncio.Lock()
        self._view, self._read_at = View(), 0.0
        self._left_out = 0
        self._alive: dict[str, list[WorkerInfo]] = {}
        self._paces: dict[tuple[str, str], tuple[float, Pace | None]] = {}
        """When the pace of each type was read, and what it was."""
        self._log = logs.get_logger()

    async def view(self) -> View:
        """Return the view, at most `KEPT` seconds old; an empty one if Redis is unreachable."""
        async with self._lock:
            if time.monotonic() - self._read_at > KEPT:
                self._view, self._read_at = await self._read(), time.monotonic()
            return self._view

    async def _read(self) -> View:
        try:
            faults = Faults("watch", self._chore_status)
            shards = [shard for shard, _ in self._discovery.shards()]
            chosen, more = chosen_types(self._discovery.types(), SCRAPED)
            self._warn_left_out(more)
            working = await self._workers(shards, faults)
            rows = await self._rows(shards, chosen, faults)
            used = await adrive(self._transport, memory(shard.types for shard in shards), patience=0)
            return View(rows, working, used, more)
        except RedisError:
            return View()

    def _warn_left_out(self, more: int) -> None:
        """Log once that types are left out: their alerts and autoscalers get no data."""
        if more and not self._left_out:
            self._log.warning("queue.types_left_out", types=more, counted=SCRAPED, fix=LEFT_OUT_FIX)
        self._left_out = more

    async def _rows(
        self, shards: Sequence[ShardKeys], chosen: Sequence[TypeKeys], faults: Faults
    ) -> list[Row]:
        """Return a row per type. A type that cannot be counted in all its shards has no row: a partial count
        would look complete."""
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
        rows = [
            scraped(app, stats_of(name, found), paused=(app, name) in paused)
            for (app, name), found in counted.items()
            if (app, name) not in unreadable
        ]
        await self._scale(rows, chosen, faults)
        return rows

    async def _scale(self, rows: Sequence[Row], chosen: Sequence[TypeKeys], faults: Faults) -> None:
        """Add to each row how many workers its type needs."""
        now, shards = time.monotonic(), dict[tuple[str, str], list[TypeKeys]]()
        for keys in chosen:
            shards.setdefault((keys.app, keys.type), []).append(keys)

        async def measure(row: Row) -> None:
            name = row["app"], row["type"]
            read_at, _ = self._paces.get(name, (-PACE_INTERVAL, None))
            if now - read_at >= PACE_INTERVAL:
                found = await adrive(self._transport, scaling.pace(shards[name]), patience=0)
                self._paces[name] = now, found

        await for_each(rows, measure, faults)
        for row in rows:
            _, pace = self._paces.get((row["app"], row["type"]), (0.0, None))
            if pace is not None:
                slots = scaling.slots_each(self._alive.get(row["app"], ()), row["type"])
                need = scaling.load(pace, row["ready"], row["running"], slots, paused=row["paused"])
                row["load"] = round(need, 3)
                row["desired"] = scaling.desired(need, row["ready"], row["running"])

    async def _workers(self, shards: Sequence[ShardKeys], faults: Faults) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}

        async def count(shard: ShardKeys) -> None:
            found[shard.app] = tally(())
            self._alive[shard.app] = await adrive(self._transport, workers(shard.app), patience=0)
            found[shard.app] = tally(self._alive[shard.app])

        await for_each([shard for shard in shards if shard.shard == 0], count, faults)
        return found

    async def _paused(self, shards: Sequence[ShardKeys], faults: Faults) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()

        async def read(shard: ShardKeys) -> None:
            names = await self._transport.run(listing_calls.paused(shard), patience=0)
            found.update((shard.app, name) for name in names)

        await for_each(shards, read, faults)
        return found


def chosen_types(types: Sequence[TypeKeys], most: int) -> tuple[list[TypeKeys], int]:
    """Return at most `most` keys, each type with all its shards, and the number of types left out. Apps take
    turns, so that one app's types do not crowd out another's."""
    if len(types) <= most:
        return list(types), 0
    shards: dict[tuple[str, str], list[TypeKeys]] = {}
    for keys in types:
        shards.setdefault((keys.app, keys.type), []).append(keys)
    turns: Counter[str] = Counter()
    order: list[tuple[int, tuple[str, str]]] = []
    for app, name in shards:
        order.append((turns[app], (app, name)))
        turns[app] += 1
    chosen: list[TypeKeys] = []
    left_out = 0
    for _, app_type in sorted(order):
        if len(chosen) + len(shards[app_type]) <= most:
            chosen += shards[app_type]
        else:
            left_out += 1
    return chosen, left_out
