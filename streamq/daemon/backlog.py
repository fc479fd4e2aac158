"""The queue as a daemon sees it: what is ready, running, scheduled and dead, and who works on it.

Owns that look: bounded, shared by whoever asks at the same time, and kept for a moment. What is wrong with
one app, shard or type is told and keeps no other from being seen. Writes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from streamq import calls
from streamq.daemon.directory import Directory
from streamq.daemon.loop import a_round, each
from streamq.daemon.rounds import Rounds
from streamq.errors import RedisError
from streamq.flow import adrive
from streamq.heartbeats import workers
from streamq.keys import ShardKeys, TypeKeys
from streamq.model import Counts
from streamq.overview import KEPT, SCRAPED, Row, View, memory, scraped, stats_of, tally
from streamq.transport import AsyncTransport


class Backlog:
    """Looks at every type of every shard."""

    def __init__(self, transport: AsyncTransport, directory: Directory, rounds: Rounds) -> None:
        self._transport = transport
        self._directory = directory
        self._rounds = rounds
        self._lock = asyncio.Lock()
        self._view, self._seen = View(), 0.0

    async def look(self) -> View:
        """What there is, at most `KEPT` seconds old."""
        async with self._lock:
            if time.monotonic() - self._seen > KEPT:
                self._view, self._seen = await self._fresh(), time.monotonic()
            return self._view

    async def _fresh(self) -> View:
        try:
            with a_round(self._rounds, "watch"):
                shards = [shard for shard, _ in self._directory.shards()]
                seen = await adrive(self._transport, memory(shard.types for shard in shards), patience=0)
                return View(await self._rows(shards), await self._workers(shards), seen)
        except RedisError:
            return View()

    async def _rows(self, shards: Sequence[ShardKeys]) -> list[Row]:
        """A type that cannot be counted in one of its shards has no row: a part would be taken for all."""
        counted: dict[tuple[str, str], list[Counts]] = {}
        unreadable: set[tuple[str, str]] = set()

        async def count(keys: TypeKeys) -> None:
            unreadable.add((keys.app, keys.type))
            found = await self._transport.run(calls.counts(keys), patience=0)
            counted.setdefault((keys.app, keys.type), []).append(found)
            unreadable.discard((keys.app, keys.type))

        for keys in self._directory.types()[:SCRAPED]:
            if (keys.app, keys.type) not in unreadable:
                await each([keys], count)
        paused = await self._paused(shards)
        return [
            scraped(app, stats_of(name, found), paused=(app, name) in paused)
            for (app, name), found in counted.items()
            if (app, name) not in unreadable
        ]

    async def _workers(self, shards: Sequence[ShardKeys]) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}

        async def look(shard: ShardKeys) -> None:
            found[shard.app] = tally(())
            found[shard.app] = tally(await adrive(self._transport, workers(shard.app), patience=0))

        await each([shard for shard in shards if shard.shard == 0], look)
        return found

    async def _paused(self, shards: Sequence[ShardKeys]) -> set[tuple[str, str]]:
        found: set[tuple[str, str]] = set()

        async def look(shard: ShardKeys) -> None:
            names = await self._transport.run(calls.paused(shard), patience=0)
            found.update((shard.app, name) for name in names)

        await each(shards, look)
        return found
