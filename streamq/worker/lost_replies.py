"""After a failed read: what the server handed to us and never arrived is handed back.

Owns that look over all streams of a shard, and the making of missing groups. Reads no task.
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
"""Types that one script looks at: it blocks the server."""


class LostReplies:
    """Of one shard in one worker process. `recovered` is told the places of what is to be handed back."""

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

    async def make_groups(self) -> None:
        """Create the groups that are missing, from the first entry on."""
        for keys in chunks(self._keys, TYPES_AT_ONCE):
            await self._transport.run(worker_calls.groups([stream for one in keys for stream in one.streams]))

    async def hand_back(self) -> None:
        """Hand back what is pending under our name and not in the book."""
        for keys in chunks(self._keys, TYPES_AT_ONCE):
            for seen in await self._transport.run(daemon_calls.survey(keys)):
                if seen.pending:
                    await self._hand_back(seen.keys, seen.letter)

    async def _hand_back(self, keys: TypeKeys, letter: str) -> None:
        try:
            places = await self._transport.run(worker_calls.pending(keys, letter, self._consumer, 1000))
        except GroupMissing:
            await self.make_groups()
            return
        lost_replies = [place for place in places if not self._in_flight.has((keys.type, keys.shard), place)]
        if lost_replies:
            self._recovered(keys, lost_replies)
