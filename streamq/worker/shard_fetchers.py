"""The fetchers of a worker, one per served shard: started and stopped as the number of shards changes.

Owns the fetchers and their asyncio tasks. Must not read the number of shards: its callers pass it. A shard
that is no longer known is empty, so nothing is lost when its fetcher stops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from streamq.errors import RedisError
from streamq.keys import TypeKeys
from streamq.telemetry import logs
from streamq.worker.config import WorkerConfig
from streamq.worker.fetcher import Fetcher


class ShardFetchers:
    """The fetchers of one worker process. make: creates the fetcher of a shard. beat: returns the payload of
    a shard's first heartbeat.

    `failed` is set when a fetcher has ended without being stopped.
    """

    def __init__(
        self, config: WorkerConfig, make: Callable[[int], Fetcher], beat: Callable[[int], bytes]
    ) -> None:
        self._registration, self._make, self._beat = config.registration, make, beat
        self._fetchers: dict[int, Fetcher] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._paused: dict[int, frozenset[str]] = {}
        self._left: frozenset[str] = frozenset()
        self._changing = asyncio.Lock()
        self._stopping = False
        self.failed: asyncio.Event = asyncio.Event()
        self._log = logs.get_logger(worker=config.name)

    @property
    def shards(self) -> list[int]:
        """Return the shards that are served."""
        return list(self._fetchers)

    @property
    def fetchers(self) -> list[Fetcher]:
        """Return a copy of the fetchers. May be called from another thread."""
        return list(self._fetchers.values())

    def is_unreachable(self, shard: int) -> bool:
        """Return whether the server of a shard is unreachable."""
        fetcher = self._fetchers.get(shard)
        return fetcher is not None and fetcher.unreachable_since > 0

    def serves(self, shards: int) -> bool:
        """Return whether exactly `shards` shards are served."""
        return set(self._fetchers) == set(range(shards))

    def is_paused(self, keys: TypeKeys) -> bool:
        fetcher = self._fetchers.get(keys.shard)
        return fetcher is not None and fetcher.is_paused(keys.type)

    def pause(self, shard: int, types: frozenset[str]) -> None:
        """Set the paused types of a shard."""
        self._paused[shard] = types
        fetcher = self._fetchers.get(shard)
        if fetcher is not None:
            fetcher.pause(types | self._left)

    def leave_alone(self, types: frozenset[str]) -> None:
        """Set the types that this process does not take, in any shard, besides those that are paused."""
        self._left = types
        for shard, fetcher in self._fetchers.items():
            fetcher.pause(self._paused.get(shard, frozenset()) | types)

    async def serve(self, shards: int) -> None:
        """Serve `shards` shards from now on. A shard that cannot be prepared is tried at the next call."""
        async with self._changing:
            retired = [shard for shard in self._fetchers if shard >= shards]
            await self._end(retired)
            for shard in retired:
                await self.leave(shard)
            for shard in range(shards):
                if shard not in self._fetchers and not self._stopping:
                    await self._begin(shard)

    async def leave(self, shard: int) -> None:
        """Deregister from a shard."""
        await self._registration.leave(shard, unreachable=self.is_unreachable(shard))

    async def _begin(self, shard: int) -> None:
        try:
            paused = await self._registration.prepare(shard, self._beat(shard))
        except RedisError as error:
            self._log.warning("shard.not_ready", shard=shard, error=str(error))
            return
        if self._stopping:
            return
        fetcher = self._fetchers[shard] = self._make(shard)
        self._paused[shard] = paused
        fetcher.pause(paused | self._left)
        task = self._tasks[shard] = asyncio.create_task(fetcher.run())
        task.add_done_callback(lambda task: self._ended(shard, fetcher, task))

    def _ended(self, shard: int, fetcher: Fetcher, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log.critical("worker.failed", shard=shard, error=repr(error), exc_info=error)
        if self._fetchers.get(shard) is fetcher and not self._stopping:
            self.failed.set()

    async def _end(self, shards: Iterable[int]) -> None:
        fetchers = {shard: self._fetchers.pop(shard) for shard in shards}
        await asyncio.gather(*(fetcher.stop() for fetcher in fetchers.values()))
        await asyncio.gather(*(self._tasks.pop(shard) for shard in fetchers), return_exceptions=True)

    def freed(self) -> None:
        """Let every fetcher check for room again."""
        for fetcher in self._fetchers.values():
            fetcher.freed()

    async def stop(self) -> None:
        """Stop fetching. Return when every read has ended and the fetched tasks are delivered."""
        self._stopping = True
        await asyncio.gather(*(fetcher.stop() for fetcher in self._fetchers.values()))
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for shard in [shard for shard, task in self._tasks.items() if task.cancelled()]:
            del self._tasks[shard]  # so that a second `stop` does not repeat this
            await self._fetchers[shard].recover_cancelled_read()
