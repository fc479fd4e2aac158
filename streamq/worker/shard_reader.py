"""A fetcher's connection to its shard: reads only from the server whose deliveries are known to be ours.

Owns the reader and the check of the server's incarnation after each read. Decides nothing about what was
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from streamq.calls.call import Call
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
        """Whether a read that waits can be ended."""
        return self._reader.can_unblock

    async def unblock(self) -> bool:
        """End a read that waits. Return whether there was one."""
        return await self._reader.unblock()

    async def run(self, call: Call[R], longest: float = 0.0) -> R:
        """Run a call that may block for `longest` seconds."""
        incarnation = self._servers.of(self._shard)
        found = await self._reader.run(call, longest=longest, incarnation=incarnation)
        self._check(incarnation)
        return found

    async def run_all(self, asked: Sequence[Call[Any]]) -> list[Any]:
        """Run calls in one round trip. An answer may be an error."""
        incarnation = self._servers.of(self._shard)
        answers = await self._reader.run_all(list(asked), incarnation=incarnation)
        self._check(incarnation)
        return answers

    async def ask(self, asked: Sequence[Call[Any]], longest: float) -> list[Any]:
        """Run calls in order; one that may block comes alone. Raises the first error."""
        if len(asked) == 1:
            return [await self.run(asked[0], longest)]
        answers = await self.run_all(asked)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    def _check(self, incarnation: str) -> None:
        """What was read is of a server that is no more, where another took its place meanwhile."""
        if self._servers.of(self._shard) != incarnation:
            raise RedisUnavailable("the server restarted or failed over while it was read")

    async def aclose(self) -> None:
        await self._reader.aclose()
