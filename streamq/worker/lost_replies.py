"""Hands back lost replies: tasks that the server delivered in a read that failed.

Owns that search over all streams of a shard, and the creation of missing groups. Must not read a task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import worker as worker_calls
from streamq.keys import TypeKeys
from streamq.transport.async_transport import AsyncTransport
from streamq.transport.faults import GroupMissing
from streamq.worker.in_flight import InFlight, chunks

TYPES_AT_ONCE: Final = 250
"""The most types in one script: it blocks the server."""


class LostReplies:
    """The lost replies of one shard in one worker process. `recovered` takes the places to hand back."""

    def __init__(
        self,
        keys: list[TypeKeys],
        consumer: str,
        transport: AsyncTransport,
        in_flight: InFlight,
        recovered: Callable[[TypeKeys, list[str]], None],
    ) -> None:
        self._keys, self._consumer = keys, consumer
        self._transport, self._in_flight = transport, in_flight
        self._recovered = recovered

    async def create_groups(self) -> None:
        """Create the missing consumer groups, starting at the first entry."""
        for keys in chunks(self._keys, TYPES_AT_ONCE):
            await self._transport.run(worker_calls.groups([stream for one in keys for stream in one.streams]))

    async def hand_back(self) -> None:
        """Hand back the deliveries that are pending for this worker but not in flight."""
        for keys in chunks(self._keys, TYPES_AT_ONCE):
            for seen in await self._transport.run(daemon_calls.survey(keys)):
                if seen.pending:
                    await self._hand_back(seen.keys, seen.letter)

    async def _hand_back(self, keys: TypeKeys, letter: str) -> None:
        try:
            places = await self._transport.run(worker_calls.pending(keys, letter, self._consumer, 1000))
        except GroupMissing:
            await self.create_groups()
            return
        missing = [place for place in places if not self._in_flight.has((keys.type, keys.shard), place)]
        if missing:
            self._recovered(keys, missing)
