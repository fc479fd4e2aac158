"""Takes tasks from one shard, as many as there is room for; highest priority first.

Owns the loop around the blocking read. Which streams are read is in `fetch_order`, what is done when a read
fails in `recovery`. It decides nothing about a task: what it got goes to a callable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.worker import FetchedByType, Source
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model.task import SUSPECT
from streamq.telemetry import logs
from streamq.transport.faults import GroupMissing, ServerChanged
from streamq.worker.config import WorkerConfig
from streamq.worker.doorbell import MANY, Doorbell, Listed
from streamq.worker.fetch_order import FetchPolicy
from streamq.worker.in_flight import InFlight
from streamq.worker.lost_replies import LostReplies
from streamq.worker.recovery import Recovery
from streamq.worker.runner import Runner
from streamq.worker.server_epochs import ServerEpochs
from streamq.worker.shard_reader import ShardReader

MOST: Final = 200
"""Tasks in one fetch at most: a script blocks the server."""
UNENDABLE: Final = 0.5
"""Seconds that a read blocks at most where the server has no CLIENT with which to end it."""


class Fetcher:
    """Reads one shard for one worker process."""

    def __init__(
        self,
        shard: int,
        given: WorkerConfig,
        runner: Runner,
        in_flight: InFlight,
        servers: ServerEpochs,
        deliver: Callable[[FetchedByType], Awaitable[None]],
        recovered: Callable[[TypeKeys, list[str]], None],
    ) -> None:
        app, transport, handlers = given.registry.name, given.transport, given.registry.handlers
        keys = [type_keys(app, shard, name) for name in given.types]
        self._transport = transport
        self._reader = ShardReader(shard, transport, servers)
        self._consumer = given.name
        self._options = given.options
        self._runner = runner
        self._in_flight = in_flight
        self._deliver = deliver
        self._counters = given.counters
        self._log = logs.get_logger(worker=given.name, shard=shard)
        self._room, self._ending = asyncio.Event(), asyncio.Event()
        self._left_out = self._blocking = self._idle = False
        self._policy = FetchPolicy(
            keys, given.options.fairness, lambda name: runner.room_for(handlers[name]), time.monotonic()
        )
        self._doorbell: Doorbell | None = None
        if len(keys) > MANY:
            self._doorbell = Doorbell(shard_keys(app, shard), keys, self._reader.ask)
        lost_replies = LostReplies(keys, self._consumer, transport, in_flight, recovered)
        self._recovery = Recovery(
            shard,
            keys[0].normal,
            transport,
            servers,
            lost_replies,
            self._counters,
            self._pause,
            self._ending,
            self._log,
        )
        self.last_read: float = time.monotonic()
        self._began = self.last_read

    @property
    def away_since(self) -> float:
        """Since when the server has not answered, on the monotonic clock; 0 while it does."""
        return self._recovery.away_since

    def freed(self) -> None:
        """There may be room again, also for a type that the read under way had to leave out."""
        self._room.set()
        if self._left_out:
            self._left_out = False
            self._transport.spawn(self._unblock())

    def is_paused(self, task_type: str) -> bool:
        return self._policy.is_paused(task_type)

    def pause(self, types: frozenset[str]) -> None:
        """Leave these types alone from now on, and only these; a read that waits is begun anew."""
        if self._policy.pause(types):
            self._room.set()
            self._transport.spawn(self._unblock())

    async def stop(self) -> None:
        """Take no more. Returns when a read under way has ended, and what it brought is delivered."""
        self._ending.set()
        self._room.set()
        await self._unblock()

    async def _unblock(self) -> None:
        """End the blocking read. The request may overtake the read itself, so it is repeated."""
        try:
            while self._blocking and self._reader.can_unblock and not await self._reader.unblock():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        except RedisError as error:  # the read ends by itself within `block`
            self._log.debug("fetch.unblock_failed", error=str(error))

    async def run(self) -> None:
        """Read until stopped; outages are waited for."""
        while not self._ending.is_set():
            try:
                await self._read()
            except GroupMissing:
                self._forget()
                await self._recovery.make_groups()
            except ServerChanged as changed:
                self._forget()
                await self._recovery.move(changed)
            except RedisUnavailable as error:
                self._forget()
                if await self._recovery.recover(error, self._began):
                    self.last_read = time.monotonic()
            except RedisError as error:
                # Without the rights for it, or where its keys were overwritten, every stream is read.
                self._doorbell = None
                self._log.error("fetch.failed", error=str(error))
                self._counters.count("streamq_redis_errors_total", "fetch")
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
        sources = self._policy.sources(room, time.monotonic())
        if not sources:
            await self._room.wait()
            return
        # Where the last read waited in vain, another one that waits is all it takes.
        found = (0, []) if self._idle else await self._fetch(room, sources)
        waited = not found[1] and not self._ending.is_set()
        if waited:
            found = await self._wait_for_one()
        # While a suspect is in hand a read that waits leaves out the stream of what was handed back.
        self._idle = waited and not found[1] and not self._room.is_set() and not self._in_flight.suspects
        await self._take(found)
        if waited and found[1]:
            await asyncio.sleep(0)  # the handler starts before we ask for more

    async def _take(self, found: FetchedByType) -> None:
        self.last_read = time.monotonic()
        self._recovery.succeeded()
        if found[1]:
            self._policy.served(found)
            await self._deliver(found)

    async def _read_ready(self, bell: Doorbell, room: int) -> None:
        """The same for many types: only streams are read that are known to have tasks."""
        idle = await bell.watch()
        suspects = self._in_flight.suspects > 0
        sources = self._policy.ready_sources(bell.known, room, time.monotonic(), suspects=suspects)
        found: FetchedByType = (0, [])
        if sources:
            found = await self._fetch_ready(bell, room, sources)
        elif idle and not self._ending.is_set():
            # One worker at a time waits as workers of few types do, so that what does not ring (an older
            # release) is seen at once.
            found = await self._wait_for_one()
        elif not self._ending.is_set():
            await self._wait_for_bell(bell)
        await self._take(found)

    async def _fetch_ready(self, bell: Doorbell, room: int, sources: list[Source]) -> FetchedByType:
        found, names = await self._reader.run_all([self._script(room, sources, rings=True), bell.look])
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
        return self._policy.limit(one.keys.type) > 0 and not (
            one.letter == SUSPECT and self._in_flight.suspects
        )

    async def _fetch(self, room: int, sources: list[Source]) -> FetchedByType:
        """What is ready now. Where one stream alone filled the last fetch, it is read as it is, in one
        round trip with the script that looks at those before it: the script's copying is most of its cost. Of
        its priority it is the last, as it was served last: no other type is left out."""
        deep = self._policy.deep(sources)
        if deep is None:
            found = await self._reader.run(self._script(room, sources))
        else:
            before, source = deep
            found = await self._fetch_deep(room, before, source._replace(limit=min(room, source.limit)))
        self._policy.fetched(found, room)
        return found

    async def _fetch_deep(self, room: int, before: Sequence[Source], deep: Source) -> FetchedByType:
        asked: list[Call[FetchedByType]] = [worker_calls.read(self._consumer, deep)]
        if before:
            asked.insert(0, self._script(max(1, room // 4), before))
        answers: list[Any] = await self._reader.run_all(asked)
        failed = [answer for answer in answers if isinstance(answer, RedisError)]
        good = [answer for answer in answers if not isinstance(answer, RedisError)]
        found = max((now for now, _ in good), default=0), [part for _, parts in good for part in parts]
        if failed:
            await self._deliver(found)
            raise failed[0]
        return found

    def _script(self, room: int, sources: Sequence[Source], *, rings: bool = False) -> Call[FetchedByType]:
        alone = self._in_flight.suspects > 0
        return worker_calls.fetch(self._consumer, room, sources, alone=alone, rings=rings)

    async def _wait_for_one(self) -> FetchedByType:
        """Nothing is ready: block until something is, with one plain read."""
        # The sources anew: something may have been freed meanwhile.
        sources = self._policy.sources(max(1, self._runner.room()), time.monotonic())
        if self._in_flight.suspects:
            sources = [source for source in sources if source.letter != SUSPECT]
        if not sources:
            return 0, []
        block = self._options.block if self._reader.can_unblock else min(self._options.block, UNENDABLE)
        call = worker_calls.block(self._consumer, round(block * 1000), sources)
        self._left_out = self._policy.leaves_out(sources)
        self._blocking = True
        try:
            return await self._reader.run(call, block)
        finally:
            self._blocking = self._left_out = False

    async def abandoned(self) -> None:
        """The read was cancelled half way: hand back what it may have brought."""
        with suppress(RedisError):
            await self._reader.aclose()
        await self._recovery.hand_back()

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
