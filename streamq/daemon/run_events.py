"""Tells who listens that a run of a recurring task was skipped.

Owns that message. As workers do, it tells only while somebody listens.
"""

from __future__ import annotations

import time

import orjson

from streamq.calls.call import Call
from streamq.keys import ShardKeys, TypeKeys, shard_keys
from streamq.namespace import namespace_of
from streamq.transport.async_transport import AsyncTransport


class RunEvents:
    """Of one daemon."""

    def __init__(self, transport: AsyncTransport, name: str) -> None:
        self._transport, self._name = transport, name

    async def skipped(self, keys: TypeKeys, run: str, number: int) -> None:
        """So many runs of a schedule were skipped, the latest of which is this."""
        shard = shard_keys(keys.app, keys.shard)
        listens = await self._transport.run(
            Call(None, (shard.tail,), ("EXISTS", shard.tail), bool), patience=0
        )
        if listens:
            await self._transport.run(self._message(shard, keys.type, run, number), patience=0)

    def _message(self, shard: ShardKeys, task_type: str, run: str, number: int) -> Call[int]:
        told = {
            "event": "run_skipped", "id": f"{task_type}:{shard.shard}:{run}", "attempt": 0, "seconds": None,
            "at_ms": int(time.time() * 1000), "number": number,
        }  # fmt: skip
        text = {
            "worker": self._name, "database": namespace_of(shard.app).database, "events": [told],
            "left_out": 0,
        }  # fmt: skip
        return Call(None, (shard.tail,), ("PUBLISH", shard.events, orjson.dumps(text)), int)
