"""The sampler: adds the counts since the last sample to the rollups, from which charts and rates are drawn.

Owns the rounds. The counting is one script, so that any number of daemons may sample.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamq.calls import question as question_calls
from streamq.calls import rollup as rollup_calls
from streamq.daemon.discovery import Discovery
from streamq.daemon.loop import Faults, for_each, in_batches
from streamq.keys import ShardKeys, TypeKeys
from streamq.transport.async_transport import AsyncTransport


class Sampler:
    """Samples all task types, once per round."""

    def __init__(self, transport: AsyncTransport, discovery: Discovery) -> None:
        self._transport = transport
        self._discovery = discovery
        self._sampled_ms: dict[ShardKeys, int] = {}
        self._round_ms: int | None = None

    async def round(self, faults: Faults) -> None:
        """Sample every type, all with the time of one server."""
        now_ms = await self._transport.run(question_calls.now(), patience=0)

        async def shard(listed: tuple[ShardKeys, list[TypeKeys]]) -> None:
            keys, types = listed
            # A shard that the round before did not have began after it, with all that its counters say.
            before = self._sampled_ms.get(keys, self._round_ms)
            new_gap = -1 if before is None else max(0, now_ms - before)

            async def sample(batch: Sequence[TypeKeys]) -> None:
                await self._transport.run(rollup_calls.sample(batch, now_ms, new_gap), patience=0)

            await in_batches(types, sample, faults)
            self._sampled_ms[keys] = now_ms

        await for_each(self._discovery.shards(), shard, faults)
        listed = {keys for keys, _ in self._discovery.shards()}
        self._sampled_ms = {keys: at for keys, at in self._sampled_ms.items() if keys in listed}
        self._round_ms = now_ms
