"""Notes in the rollups what was counted since the last look: what charts and rates are made of.

Owns the rounds. The counting is one script, so that any number of daemons may sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamq import calls
from streamq.daemon.directory import Directory
from streamq.daemon.loop import Faults, for_each, in_batches
from streamq.keys import ShardKeys, TypeKeys
from streamq.transport import AsyncTransport


class Sampler:
    """Samples all task types, once a round."""

    def __init__(self, transport: AsyncTransport, directory: Directory) -> None:
        self._transport = transport
        self._directory = directory

    async def round(self, faults: Faults) -> None:
        """Sample every type, by the clock of one server."""
        now_ms = await self._transport.run(calls.now(), patience=0)

        async def sample(types: Sequence[TypeKeys]) -> None:
            await self._transport.run(calls.sample(types, now_ms), patience=0)

        async def shard(listed: tuple[ShardKeys, list[TypeKeys]]) -> None:
            await in_batches(listed[1], sample, faults)

        await for_each(self._directory.shards(), shard, faults)
