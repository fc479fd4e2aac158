"""Takes tasks from one shard, as many as there is room for; highest priority first.

Owns the order in which streams are read, the blocking read and what to do when it fails. It decides
nothing about a task: what it got goes to a callable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from streamq import calls, telemetry
from streamq.app import Registry
from streamq.calls import FetchedByType, Source
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model import SUSPECT
from streamq.options import WorkerOptions
from streamq.transport import AsyncReader, AsyncTransport, GroupMissing, ServerChanged, answers, returned
from streamq.worker.doorbell import MANY, Doorbell, Listed
from streamq.worker.fetch_order import FetchOrder
from streamq.worker.holdings import Holdings
from streamq.worker.incarnations import Incarnations
from streamq.worker.runner import Runner
from streamq.worker.unseen import Unseen

R = TypeVar("R")
MOST: Final = 200
"""Tasks in one fetch at most: a script blocks the server."""
UNENDABLE: Final = 0.5
"""Seconds that a read blocks at most where the server has no CLIENT with which to end it."""
IDLE: Final = 1.0
"""Seconds after which a read that waited may have been ended because nothing came."""
SOON: Final = 0.5
FIRST_PAUSE: Final = 0.02
RETURNED_AFTER: Final = 1.0
"""Seconds from one look for tasks that were handed back, while a suspect is in hand, to the next."""
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
        self._unseen = Unseen(self._keys, self._consumer, transport, holdings, recovered)
        self._sums = runner.sums
        self._room = asyncio.Event()
        self._stopping = False
        self._ending = asyncio.Event()
        self._left_out = self._blocking = self._idle = False
        self._paused: frozenset[str] = frozenset()
        self._failures = 0
        self._next_returned = 0.0
        self._deep: tuple[TypeKeys, str] | None = None
        self._order = FetchOrder(self._keys, options.fairness, time.monotonic())
        shard_key = shard_keys(registry.name, shard)
        self._doorbell = Doorbell(shard_key, self._keys, self._ask_all) if len(types) > MANY else None
        self._log = telemetry.get_logger(worker=servers.consumer, shard=shard)
        self.last_read = self._began = time.monotonic()
        self.away_since = 0.0

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
                # Without the rights for it, or where its keys were overwritten, every stream is read.
                self._doorbell = None
                self._log.error("fetch.failed", error=str(error))
                self._sums.count("streamq_redis_errors_total", "fetch")
                await self._pause(1.0)
        if self._doorbell is not None:
            with suppress(RedisError, ServerChanged):
                await self._doorbell.hand_over()
        await self._reader.aclose()

    async def _read(self) -> None:
        self._began = time.monotonic()
        self._room.clear()
        room = min(self._runner.room(), MOST)
        if room <= 0:
            await self._room.wait()
            return
        if self._doorbell is not None:
            await self._read_ready(self._doorbell, room)
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
        # While a suspect is in hand a read that waits leaves out the stream of what was handed back.
        self._idle = waited and not found[1] and not self._room.is_set() and not self._holdings.suspects
        await self._take(found)
        if waited and found[1]:
            await asyncio.sleep(0)  # the handler starts before we ask for more

    async def _take(self, found: FetchedByType) -> None:
        self.last_read, self._failures = time.monotonic(), 0
        if found[1]:
            self._order.served((source.keys.type, len(entries)) for source, entries in found[1])
            await self._deliver(found)

    async def _read_ready(self, bell: Doorbell, room: int) -> None:
        """The same for many types: only streams are read that are known to have tasks."""
        idle = await bell.watch()
        sources = self._order.ready_sources(self._readable(bell), room, self._limit, time.monotonic())
        found: FetchedByType = (0, [])
        if sources:
            found = await self._fetch_ready(bell, room, sources)
        elif idle and not self._stopping:
            # One worker at a time waits as workers of few types do, so that what does not ring (an older
            # release) is seen at once.
            found = await self._wait_for_one(self._sources(room))
        elif not self._stopping:
            await self._wait_for_bell(bell)
        await self._take(found)

    def _readable(self, bell: Doorbell) -> list[Listed]:
        """While a suspect is in hand, the streams of suspects are read now and then: what was handed back
        waits there too."""
        now = time.monotonic()
        if self._holdings.suspects and now < self._next_returned:
            return [one for one in bell.known if one.letter != SUSPECT]
        self._next_returned = now + RETURNED_AFTER
        return bell.known

    async def _fetch_ready(self, bell: Doorbell, room: int, sources: list[Source]) -> FetchedByType:
        found, names = await self._run_all([self._script(room, sources, rings=True), bell.look])
        if isinstance(found, RedisError):
            raise found
        bell.learn([] if isinstance(names, RedisError) else names)
        taken: FetchedByType = found
        return taken

    async def _wait_for_bell(self, bell: Doorbell) -> None:
        self._left_out = bell.has_refused
        self._blocking = True
        try:
            await bell.wait(min(self._options.block, bell.patience), self._may_read)
        finally:
            self._blocking = self._left_out = False

    def _may_read(self, one: Listed) -> bool:
        return self._limit(one.keys.type) > 0 and not (one.letter == SUSPECT and self._holdings.suspects)

    async def _fetch(self, room: int, sources: list[Source]) -> FetchedByType:
        """What is ready now. Where one stream alone filled the last fetch, it is read as it is, in one
        round trip with the script that looks at those before it: the script's copying is most of its cost. Of
        its priority it is the last, as it was served last: no other type is left out."""
        deep = next((source for source in sources if source[:2] == self._deep), None)
        if deep is None:
            found = await self._ask(self._script(room, sources))
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
            asked.insert(0, self._script(max(1, room // 4), before))
        answers = await self._run_all(asked)
        failed = [answer for answer in answers if isinstance(answer, RedisError)]
        good = [answer for answer in answers if not isinstance(answer, RedisError)]
        found = max((now for now, _ in good), default=0), [part for _, parts in good for part in parts]
        if failed:
            await self._deliver(found)
            raise failed[0]
        return found

    def _script(self, room: int, sources: list[Source], *, rings: bool = False) -> calls.Call[FetchedByType]:
        alone = self._holdings.suspects > 0
        return calls.fetch(self._consumer, room, sources, alone=alone, rings=rings)

    async def _ask_all(self, asked: Sequence[calls.Call[Any]], longest: float) -> list[Any]:
        """Run calls in order; one that may block comes alone. Raises the first error."""
        if len(asked) == 1:
            return [await self._ask(asked[0], longest)]
        answers = await self._run_all(asked)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    async def _run_all(self, asked: Sequence[calls.Call[Any]]) -> list[Any]:
        incarnation = self._servers.of(self._shard)
        answers = await self._reader.run_all(list(asked), incarnation=incarnation)
        self._check(incarnation)
        return answers

    async def _ask(self, call: calls.Call[R], longest: float = 0.0) -> R:
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
        if self._holdings.suspects:
            sources = [source for source in sources if source.letter != SUSPECT]
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
        """The streams to read, in their order; none of types that are paused or have no room."""
        limits = {keys.type: min(room, self._limit(keys.type)) for keys in self._keys}
        sources, turn = self._order.sources(room, limits, time.monotonic())
        if turn:
            self._deep = None
        return sources

    def _limit(self, task_type: str) -> int:
        """The most to take of a type now; none where it is paused."""
        if task_type in self._paused:
            return 0
        return self._runner.room_for(self._registry.handlers[task_type])

    async def _mend(self) -> None:
        """A group is missing (FLUSHALL, a stray command): create it from the first entry on."""
        self._log.warning("group.missing")
        self._forget()
        try:
            await self._unseen.make_groups()
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
        self._forget()
        await self._pause(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0**self._failures))
        self._failures += not quiet
        while not self._stopping:
            try:
                if not await returned(self._transport, self._keys[0].normal, stop=self._ending):
                    return
                await self._unseen.hand_back()
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
        self._forget()
        try:
            if await self._servers.move(self._shard, incarnation):
                await self._unseen.hand_back()
        except RedisError as error:
            self._log.warning("redis.unavailable", doing="move", error=str(error))
            await self._pause(0.1)

    async def abandoned(self) -> None:
        """The read was cancelled half way: hand back what it may have brought."""
        try:
            await self._reader.aclose()
            await self._unseen.hand_back()
        except RedisError as error:
            self._log.warning("fetch.recovery_failed", error=str(error))

    def _forget(self) -> None:
        """What rang may be lost with the server that knew it."""
        if self._doorbell is not None:
            self._doorbell.forget()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                self._room.clear()
                await self._room.wait()
        except TimeoutError:
            pass
