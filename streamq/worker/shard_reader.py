"""A fetcher's connection to its shard: reads only from the verified incarnation of the server.

Owns the reader and the check of the server's incarnation after each read. Must not interpret what was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from streamq.calls.call import AnyCall, Call
from streamq.errors import RedisError, RedisUnavailable
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.reader import AsyncReader
from streamq.worker.server_epochs import ServerEpochs

R = TypeVar("R")


class ShardReader:
    """Reads one shard for one worker process."""

    def __init__(self, shard: int, transport: AsyncTransport, servers: ServerEpochs) -> None:
        self._shard = shard
        self._reader = AsyncReader(transport)
        self._servers = servers

    @property
    def can_unblock(self) -> bool:
        """Return whether a waiting read can be ended."""
        return self._reader.can_unblock

    async def unblock(self) -> bool:
        """End a waiting read. Return whether there was one."""
        return await self._reader.unblock()

    async def run(self, call: Call[R], longest: float = 0.0) -> R:
        """Run a call that may block for `longest` seconds."""
        incarnation = self._servers.of(self._shard)
        found = await self._reader.run(call, longest=longest, incarnation=incarnation)
        self._check(incarnation)
        return found

    async def run_all(self, calls: Sequence[AnyCall]) -> list[Any]:
        """Run calls in one round trip and return their results, of which each may be a RedisError."""
        incarnation = self._servers.of(self._shard)
        results = await self._reader.run_all(list(calls), incarnation=incarnation)
        self._check(incarnation)
        return results

    async def run_calls(self, calls: Sequence[AnyCall], longest: float) -> list[Any]:
        """Run calls in order. A call that may block must be the only one. Raise the first error."""
        if len(calls) == 1:
            return [await self.run(calls[0], longest)]
        results = await self.run_all(calls)
        for result in results:
            if isinstance(result, RedisError):
                raise result
        return results

    def _check(self, incarnation: str) -> None:
        """Raise RedisUnavailable if the server changed during the read, which is then void."""
        if self._servers.of(self._shard) != incarnation:
            raise RedisUnavailable("the server restarted or failed over during a read")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._reader.aclose()
