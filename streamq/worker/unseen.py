"""After a failed read: what the server handed to us and never arrived is handed back.

Owns that look over all streams of a shard, and the making of missing groups. Reads no task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from streamq import calls
from streamq.keys import TypeKeys
from streamq.transport import AsyncTransport, GroupMissing
from streamq.worker.holdings import Holdings, chunks

TYPES_AT_ONCE: Final = 250
"""Types that one script looks at: it blocks the server."""


class Unseen:
    """Of one shard in one worker process. `recovered` is told the places of what is to be handed back."""

    def __init__(
        self,
        keys: list[TypeKeys],
        consumer: str,
        transport: AsyncTransport,
        holdings: Holdings,
        recovered: Callable[[TypeKeys, list[str]], None],
    ) -> None:
        self._keys, self._consumer = keys, consumer
        self._transport, self._holdings = transport, holdings
        self._recovered = recovered

    async def make_groups(self) -> None:
        """Create the groups that are missing, from the first entry on."""
        for keys in chunks(self._keys, TYPES_AT_ONCE):
            await self._transport.run(calls.groups([stream for one in keys for stream in one.streams]))

    async def hand_back(self) -> None:
        """Hand back what is pending under our name and not in the book."""
        for keys in chunks(self._keys, TYPES_AT_ONCE):
            for seen in await self._transport.run(calls.survey(keys)):
                if seen.pending:
                    await self._hand_back(seen.keys, seen.letter)

    async def _hand_back(self, keys: TypeKeys, letter: str) -> None:
        try:
            places = await self._transport.run(calls.pending(keys, letter, self._consumer, 1000))
        except GroupMissing:
            await self.make_groups()
            return
        unseen = [place for place in places if not self._holdings.has((keys.type, keys.shard), place)]
        if unseen:
            self._recovered(keys, unseen)
