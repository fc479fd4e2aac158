"""Takes tasks from one shard, as many as there is room for; highest priority first.

Owns the order in which streams are read, the blocking read and what to do when it fails. It decides
nothing about a task: what it got goes to a callable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from streamq import calls, telemetry
from streamq.app import Registry
from streamq.calls import FetchedByType, Source
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys, type_keys
from streamq.model import STREAM_LETTERS, SUSPECT
from streamq.options import WorkerOptions
from streamq.transport import AsyncReader, AsyncTransport, GroupMissing, ServerChanged, answers, returned
from streamq.worker.holdings import Holdings
from streamq.worker.incarnations import Incarnations
from streamq.worker.runner import Runner

MOST: Final = 200
"""Tasks in one fetch at most: a script blocks the server."""
UNENDABLE: Final = 0.5
"""Seconds that a read blocks at most where the server has no CLIENT with which to end it."""
IDLE: Final = 1.0
"""Seconds after which a read that waited may have been ended because nothing came."""
SOON: Final = 0.5
FIRST_PAUSE: Final = 0.02
LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries on a server that answers, but not what it should (loading, read only)."""


class Fetcher:
    """Reads one shard for one worker process."""

    def __init__(
        self,
        shard: int,
        types: list[str],
        registry: Registry,
        transport: AsyncTransport,
        options: WorkerOptions,
        runner: Runner,
        holdings: Holdings,
        servers: Incarnations,
        deliver: Callable[[FetchedByType], Awaitable[None]],
        recovered: Callable[[TypeKeys, list[str]], None],
    ) -> None:
        self._shard = shard
        self._keys = [type_keys(registry.name, shard, name) for name in types]
        self._registry = registry
        self._transport = transport
        self._reader = AsyncReader(transport)
        self._consumer = servers.consumer
        self._options = options
        self._runner = runner
        self._holdings = holdings
        self._servers = servers
        self._deliver = deliver
        self._recovered = recovered
        self._sums = runner.sums
        self._room = asyncio.Event()
        self._stopping = False
        self._ending = asyncio.Event()
        self._left_out = self._blocking = self._idle = False
        self._paused: frozenset[str] = frozenset()
        self._turn = self._failures = 0
        self._deep: tuple[TypeKeys, str] | None = None
        self._last_turn = {letter: time.monotonic() for letter in "nl"}
        self._log = telemetry.get_logger(worker=servers.consumer, shard=shard)
        self.last_read = self._began = time.monotonic()
        self.away_since = 0.0

    @property
    def streams(self) -> list[str]:
        return [stream for keys in self._keys for stream in keys.streams]

    def freed(self) -> None:
        """There may be room again, also for a type that the read under way had to leave out."""
        self._room.set()
        if self._left_out:
            self._left_out = False
            self._transport.spawn(self._unblock())

    def is_paused(self, task_type: str) -> bool:
        return task_type in self._paused

    def pause(self, types: frozenset[str]) -> None:
        """Leave these types alone from now on, and only these; a read that waits is begun anew."""
        if types != self._paused:
            self._paused = types
            self._deep = None
            self._room.set()
            self._transport.spawn(self._unblock())

    async def stop(self) -> None:
        """Take no more. Returns when a read under way has ended, and what it brought is delivered."""
        self._stopping = True
        self._ending.set()
        self._room.set()
        await self._unblock()

    async def _unblock(self) -> None:
        """End the blocking read. The request may overtake the read itself, so it is repeated."""
        try:
            while self._blocking and self._reader.endable and not await self._reader.unblock():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        except RedisError as error:  # the read ends by itself within `block`
            self._log.debug("fetch.unblock_failed", error=str(error))

    async def run(self) -> None:
        """Read until stopped; outages are waited for."""
        while not self._stopping:
            try:
                await self._read()
            except GroupMissing:
                await self._mend()
            except ServerChanged as changed:
                await self._move(changed.incarnation)
            except RedisUnavailable as error:
                await self._recover(error)
            except RedisError as error:
                self._log.error("fetch.failed", error=str(error))
                self._sums.count("streamq_redis_errors_total", "fetch")
                await self._pause(1.0)
        await self._reader.aclose()

    async def _read(self) -> None:
        self._began = time.monotonic()
        self._room.clear()
        room = min(self._runner.room(), MOST)
        if room <= 0:
            await self._room.wait()
            return
        sources = self._sources(room)
        if not sources:
            await self._room.wait()
            return
        # Where the last read waited in vain, another one that waits is all it takes.
        found = (0, []) if self._idle else await self._fetch(room, sources)
        waited = not found[1] and not self._stopping
        if waited:
            found = await self._wait_for_one(sources)
        self._idle = waited and not found[1] and not self._room.is_set()
        self.last_read, self._failures = time.monotonic(), 0
        if found[1]:
            await self._deliver(found)
            if waited:
                await asyncio.sleep(0)  # the handler starts before we ask for more

    async def _fetch(self, room: int, sources: list[Source]) -> FetchedByType:
        """What is ready now. Where one stream alone filled the last fetch, it is read as it is, in one
        round trip with the script that looks at those before it: the script's copying is most of its cost."""
        deep = next((source for source in sources if source[:2] == self._deep), None)
        if deep is None:
            found = await self._ask(calls.fetch(self._consumer, room, sources))
        else:
            before = sources[: sources.index(deep)]
            found = await self._fetch_deep(room, before, deep._replace(limit=min(room, deep.limit)))
        [*parts] = found[1]
        filled = len(parts) == 1 and len(parts[0][1]) >= min(room, parts[0][0].limit)
        self._deep = parts[0][0][:2] if filled and parts[0][0].letter != SUSPECT else None
        return found

    async def _fetch_deep(self, room: int, before: list[Source], deep: Source) -> FetchedByType:
        asked: list[calls.Call[FetchedByType]] = [calls.read(self._consumer, deep)]
        if before:
            asked.insert(0, calls.fetch(self._consumer, max(1, room // 4), before))
        incarnation = self._servers.of(self._shard)
        answers = await self._reader.run_all(asked, incarnation=incarnation)
        self._check(incarnation)
        failed = [answer for answer in answers if isinstance(answer, RedisError)]
        good = [answer for answer in answers if not isinstance(answer, RedisError)]
        found = max((now for now, _ in good), default=0), [part for _, parts in good for part in parts]
        if failed:
            await self._deliver(found)
            raise failed[0]
        return found

    async def _ask(self, call: calls.Call[FetchedByType], longest: float = 0.0) -> FetchedByType:
        incarnation = self._servers.of(self._shard)
        found = await self._reader.run(call, longest=longest, incarnation=incarnation)
        self._check(incarnation)
        return found

    def _check(self, incarnation: str) -> None:
        """What was read is of a server that is no more, where another took its place meanwhile."""
        if self._servers.of(self._shard) != incarnation:
            raise RedisUnavailable("the server restarted or failed over while it was read")

    async def _wait_for_one(self, sources: list[Source]) -> FetchedByType:
        """Nothing is ready: block until something is, with one plain read."""
        sources = self._sources(max(1, self._runner.room()))  # anew: something may have been freed meanwhile
        if not sources:
            return 0, []
        block = self._options.block if self._reader.endable else min(self._options.block, UNENDABLE)
        call = calls.block(self._consumer, round(block * 1000), sources)
        open_streams = sum(len(keys.streams) for keys in self._keys if not self.is_paused(keys.type))
        self._left_out = len({source.stream for source in sources}) < open_streams
        self._blocking = True
        try:
            return await self._ask(call, block)
        finally:
            self._blocking = self._left_out = False

    def _sources(self, room: int) -> list[Source]:
        """The streams in the order to read them: suspects (if none is in hand), a priority whose turn it
        is, then high to low; types take turns in being first."""
        self._turn += 1
        first = self._turn % len(self._keys)
        keys = self._keys[first:] + self._keys[:first]
        limits = {k.type: min(room, self._runner.room_for(self._registry.handlers[k.type])) for k in keys}
        keys = [k for k in keys if limits[k.type] > 0 and k.type not in self._paused]
        order = [] if self._holdings.suspects else [Source(k, SUSPECT, 1) for k in keys]
        patient = self._patient()
        share = max(1, room // 4)
        if patient:
            self._deep = None
            order += [Source(k, patient, min(share, limits[k.type])) for k in keys]
        return order + [
            Source(k, letter, limits[k.type]) for letter in "hnl" if letter != patient for k in keys
        ]

    def _patient(self) -> str | None:
        """The priority that has waited longest for a turn of its own, if that is too long."""
        now = time.monotonic()
        letter = min(self._last_turn, key=lambda known: self._last_turn[known])
        if now - self._last_turn[letter] < self._options.fairness:
            return None
        self._last_turn[letter] = now
        return letter

    async def _mend(self) -> None:
        """A group is missing (FLUSHALL, a stray command): create it from the first entry on."""
        self._log.warning("group.missing")
        try:
            await self._transport.run(calls.groups(self.streams))
        except RedisError as error:
            self._log.error("group.create_failed", error=str(error))
            await self._pause(1.0)

    async def _recover(self, lost: RedisUnavailable) -> None:
        """After a failed read: the server may have handed us tasks that never arrived. Hand them back.

        A connection that ended because nothing came on it is nothing to be told of, where another is had.
        """
        quiet = time.monotonic() - self._began >= IDLE and await self._still_there()
        (self._log.debug if quiet else self._log.warning)("redis.unavailable", doing="fetch", error=str(lost))
        if not quiet:
            self._sums.count("streamq_redis_errors_total", "fetch")
        self.away_since = self.away_since or time.monotonic()
        await self._pause(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures))
        self._failures += not quiet
        while not self._stopping:
            try:
                if not await returned(self._transport, self._keys[0].normal, stop=self._ending):
                    return
                await self._hand_back_unseen()
            except RedisError as error:
                self._log.warning("fetch.recovery_failed", error=str(error))
                await self._pause(0.5)
            else:
                (self._log.debug if quiet else self._log.info)("redis.reconnected")
                self._sums.count("streamq_redis_reconnects_total", "fetch")
                self.away_since, self.last_read = 0.0, time.monotonic()
                return

    async def _still_there(self) -> bool:
        try:
            async with asyncio.timeout(SOON):
                return await answers(self._transport, self._keys[0].normal)
        except (TimeoutError, RedisError):
            return False

    async def _move(self, incarnation: str) -> None:
        """The server is another than before: what we hold is checked before anything is fetched from it."""
        try:
            if await self._servers.move(self._shard, incarnation):
                await self._hand_back_unseen()
        except RedisError as error:
            self._log.warning("redis.unavailable", doing="move", error=str(error))
            await self._pause(0.1)

    async def abandoned(self) -> None:
        """The read was cancelled half way: hand back what it may have brought."""
        try:
            await self._reader.aclose()
            await self._hand_back_unseen()
        except RedisError as error:
            self._log.warning("fetch.recovery_failed", error=str(error))

    async def _hand_back_unseen(self) -> None:
        for keys in self._keys:
            for letter in STREAM_LETTERS:
                try:
                    places = await self._transport.run(calls.pending(keys, letter, self._consumer, 1000))
                except GroupMissing:
                    await self._mend()
                    continue
                unseen = [p for p in places if not self._holdings.has((keys.type, keys.shard), p)]
                if unseen:
                    self._recovered(keys, unseen)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                self._room.clear()
                await self._room.wait()
        except TimeoutError:
            pass
