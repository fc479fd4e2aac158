"""Fetches tasks from one shard, as many as there is room for, highest priority first.

Owns the loop around the blocking read. Which streams are read is decided in `fetch_order`, and a failed read
is handled in `recovery`. Must not decide about a task: fetched tasks go to a callable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

from streamq.calls import worker as worker_calls
from streamq.calls.call import Call
from streamq.calls.worker import FetchedByType, Source
from streamq.errors import RedisError, RedisUnavailable
from streamq.keys import TypeKeys, shard_keys, type_keys
from streamq.model.task import SUSPECT
from streamq.telemetry import logs
from streamq.transport.faults import GroupMissing, ServerChanged
from streamq.worker.config import WorkerConfig
from streamq.worker.doorbell import MANY, Doorbell, ReadyStream
from streamq.worker.fetch_order import FetchPolicy
from streamq.worker.in_flight import InFlight
from streamq.worker.lost_replies import LostReplies
from streamq.worker.recovery import Recovery
from streamq.worker.runner import Runner
from streamq.worker.server_epochs import ServerEpochs
from streamq.worker.shard_reader import ShardReader

MAX_FETCH: Final = 200
"""The most tasks in one fetch: a script blocks the server."""
UNENDABLE_BLOCK: Final = 0.5
"""The longest a read may block, in seconds, if the server has no CLIENT command with which to end it."""


class Fetcher:
    """Reads one shard for one worker process."""

    def __init__(
        self,
        shard: int,
        config: WorkerConfig,
        runner: Runner,
        in_flight: InFlight,
        servers: ServerEpochs,
        deliver: Callable[[FetchedByType], Awaitable[None]],
        recovered: Callable[[TypeKeys, list[str]], None],
    ) -> None:
        app, transport = config.registry.name, config.transport
        keys = [type_keys(app, shard, name) for name in config.types]
        self._transport = transport
        self._reader = ShardReader(shard, transport, servers)
        self._consumer = config.name
        self._options = config.options
        self._runner = runner
        self._in_flight = in_flight
        self._deliver = deliver
        self._counters = config.counters
        self._log = logs.get_logger(worker=config.name, shard=shard)
        self._room, self._stopping = asyncio.Event(), asyncio.Event()
        self._partial = self._blocking = self._idle = False
        self._policy = _policy(config, keys, runner)
        self._doorbell: Doorbell | None = None
        if len(keys) > MANY:
            self._doorbell = Doorbell(shard_keys(app, shard), keys, self._reader.run_calls)
        lost_replies = LostReplies(keys, self._consumer, transport, in_flight, recovered)
        self._recovery = Recovery(
            shard, keys[0].normal, transport, servers, lost_replies, self._counters, self._pause,
            self._stopping, self._log,
        )  # fmt: skip
        self.last_read: float = time.monotonic()
        self._read_started = self.last_read

    @property
    def unreachable_since(self) -> float:
        """Return since when the server has been unreachable, on the monotonic clock; 0 if it is reachable."""
        return self._recovery.unreachable_since

    def freed(self) -> None:
        """Check for room again. If the current read leaves out types without room, end it."""
        self._room.set()
        if self._partial:
            self._partial = False
            self._transport.spawn(self._unblock())

    def is_paused(self, task_type: str) -> bool:
        return self._policy.is_paused(task_type)

    def pause(self, types: frozenset[str]) -> None:
        """Set the paused types. If they have changed, restart a waiting read."""
        if self._policy.pause(types):
            self._room.set()
            self._transport.spawn(self._unblock())

    async def stop(self) -> None:
        """Stop fetching and end a waiting read. `run` returns after the fetched tasks are delivered."""
        self._stopping.set()
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
        """Read until stopped, and wait out Redis outages."""
        while not self._stopping.is_set():
            try:
                await self._read()
            except GroupMissing:
                self._forget()
                await self._recovery.create_groups()
            except ServerChanged as changed:
                self._forget()
                await self._recovery.handle_change(changed)
            except RedisUnavailable as error:
                self._forget()
                if await self._recovery.recover(error, self._read_started):
                    self.last_read = time.monotonic()
            except RedisError as error:
                # Perhaps the doorbell's keys are damaged or not permitted: read every stream instead.
                self._doorbell = None
                self._log.error("fetch.failed", error=str(error))
                self._counters.count("streamq_redis_errors_total", "fetch")
                await self._pause(1.0)
        if self._doorbell is not None:
            with suppress(RedisError, ServerChanged):
                await self._doorbell.hand_over()
        await self._reader.aclose()

    async def _read(self) -> None:
        self._read_started = time.monotonic()
        self._room.clear()
        room = min(self._runner.room(), MAX_FETCH)
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
        # If the last read timed out without a task, skip the fetch and wait again.
        found = (0, []) if self._idle else await self._fetch(room, sources)
        waited = not found[1] and not self._stopping.is_set()
        if waited:
            found = await self._wait_for_one()
        # While a suspect is in flight, a waiting read leaves out the stream with handed-back tasks.
        self._idle = waited and not found[1] and not self._room.is_set() and not self._in_flight.suspects
        await self._take(found)
        if waited and found[1]:
            await asyncio.sleep(0)  # let the handler start before the next fetch

    async def _take(self, found: FetchedByType) -> None:
        self.last_read = time.monotonic()
        self._recovery.succeeded()
        if found[1]:
            self._policy.served(found)
            await self._deliver(found)

    async def _read_ready(self, bell: Doorbell, room: int) -> None:
        """Read for a worker with many types: only the streams that are known to have tasks."""
        idle = await bell.watch()
        suspects = self._in_flight.suspects > 0
        sources = self._policy.ready_sources(bell.known, room, time.monotonic(), suspects=suspects)
        found: FetchedByType = (0, [])
        if sources:
            found = await self._fetch_ready(bell, room, sources)
        elif idle and not self._stopping.is_set():
            # One worker at a time waits as workers with few types do, so that tasks that do not ring (from
            # an older release) are fetched at once.
            found = await self._wait_for_one()
        elif not self._stopping.is_set():
            await self._wait_for_bell(bell)
        await self._take(found)

    async def _fetch_ready(self, bell: Doorbell, room: int, sources: list[Source]) -> FetchedByType:
        found, names = await self._reader.run_all([self._script(room, sources, rings=True), bell.list_ready])
        if isinstance(found, RedisError):
            raise found
        bell.learn([] if isinstance(names, RedisError) else names)
        taken: FetchedByType = found
        self._policy.learn(taken, room, time.monotonic())
        return taken

    async def _wait_for_bell(self, bell: Doorbell) -> None:
        self._partial = bell.has_refused
        self._blocking = True
        try:
            await bell.wait(min(self._options.block, bell.seconds_to_watch), self._may_read)
        finally:
            self._blocking = self._partial = False

    def _may_read(self, stream: ReadyStream) -> bool:
        return self._policy.limit(stream.keys.type) > 0 and not (
            stream.letter == SUSPECT and self._in_flight.suspects
        )

    async def _fetch(self, room: int, sources: list[Source]) -> FetchedByType:
        """Return what is ready now. If one stream alone filled the last fetch, read it directly, in one round
        trip with the script for the streams before it: copying is most of the script's cost. The stream was
        served last, so it is the last of its priority, and no other type is skipped."""
        deep = self._policy.deep(sources)
        if deep is None:
            found = await self._reader.run(self._script(room, sources))
        else:
            before, source = deep
            found = await self._fetch_deep(room, before, source._replace(limit=min(room, source.limit)))
        self._policy.fetched(found, room, time.monotonic())
        return found

    async def _fetch_deep(self, room: int, before: Sequence[Source], deep: Source) -> FetchedByType:
        calls: list[Call[FetchedByType]] = [worker_calls.read(self._consumer, deep)]
        if before:
            calls.insert(0, self._script(max(1, room // 4), before))
        replies: list[FetchedByType | RedisError] = await self._reader.run_all(calls)
        failed = [reply for reply in replies if isinstance(reply, RedisError)]
        good = [reply for reply in replies if not isinstance(reply, RedisError)]
        found = max((now for now, _ in good), default=0), [part for _, parts in good for part in parts]
        if failed:
            await self._deliver(found)
            raise failed[0]
        return found

    def _script(self, room: int, sources: Sequence[Source], *, rings: bool = False) -> Call[FetchedByType]:
        alone = self._in_flight.suspects > 0
        return worker_calls.fetch(self._consumer, room, sources, alone=alone, rings=rings)

    async def _wait_for_one(self) -> FetchedByType:
        """Block until a task is ready, with one plain read."""
        # Compute the sources again: slots may have become free.
        sources = self._policy.sources(max(1, self._runner.room()), time.monotonic())
        if self._in_flight.suspects:
            sources = [source for source in sources if source.letter != SUSPECT]
        if not sources:
            return 0, []
        block = self._options.block if self._reader.can_unblock else min(self._options.block, UNENDABLE_BLOCK)
        call = worker_calls.block(self._consumer, round(block * 1000), sources)
        self._partial = self._policy.leaves_out(sources)
        self._blocking = True
        try:
            return await self._reader.run(call, block)
        finally:
            self._blocking = self._partial = False

    async def recover_cancelled_read(self) -> None:
        """Hand back the tasks that a cancelled read may have fetched."""
        with suppress(RedisError):
            await self._reader.aclose()
        await self._recovery.hand_back()

    def _forget(self) -> None:
        """Drop the doorbell's knowledge, which may be wrong after a fault."""
        if self._doorbell is not None:
            self._doorbell.forget()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                self._room.clear()
                await self._room.wait()
        except TimeoutError:
            pass


def _policy(config: WorkerConfig, keys: Sequence[TypeKeys], runner: Runner) -> FetchPolicy:
    """Return how the streams of these types are read."""
    handlers = config.registry.handlers
    within = {name: handlers[name].options.within for name in config.types}
    promised = {name: seconds for name, seconds in within.items() if seconds is not None}
    return FetchPolicy(
        keys,
        config.options.fairness,
        lambda name: runner.room_for(handlers[name]),
        time.monotonic(),
        promised,
    )
