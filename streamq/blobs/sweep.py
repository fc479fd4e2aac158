"""The removal of blobs, in bounded steps: those that are due, and those that belong to no task.

Owns these steps. Whoever calls them says when; see `worker.blob_sweeper` and `streamq blobs gc`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar

from streamq.calls import blobs as calls
from streamq.calls import question as question_calls
from streamq.calls.call import Call
from streamq.keys import shard_keys
from streamq.namespace import namespace_of
from streamq.payloads.blob_store import Blobs, ListedBlob
from streamq.payloads.blobs import folder

R = TypeVar("R")
PAGE: Final = 100
PAGES: Final = 50
"""Pages of due blobs that one step removes in a shard at most."""
LISTED: Final = 1000
OLD: Final = 86_400.0
"""Seconds after which a blob that Redis does not know was left behind: its task follows within seconds."""


class Runs(Protocol):
    """What carries out calls."""

    def run(self, call: Call[R], /) -> Awaitable[R]: ...


class Sweep:
    """The blobs of one app."""

    def __init__(self, app: str, blobs: Blobs, transport: Runs) -> None:
        self._app, self._store, self._transport = app, blobs.store, transport
        self._folder = folder(app, namespace_of(app).prefix)
        self.after: str = ""
        """The name behind which the next page of the store begins."""

    async def remove_due(self, shards: int) -> int:
        """Remove blobs whose tasks and results have ended; return how many. Raises what the store does."""
        removed = 0
        for shard in range(shards):
            keys = shard_keys(self._app, shard)
            now = await self._transport.run(question_calls.now(keys.blobs))
            for _ in range(PAGES):
                names = await self._transport.run(calls.due(keys, now, PAGE))
                if names:
                    await asyncio.to_thread(self._store.delete, names)
                    removed += await self._transport.run(calls.removed(keys, names))
                if len(names) < PAGE:
                    break
        return removed

    async def page(self) -> list[ListedBlob]:
        """Return the next page of the store; after the last one, the first again."""
        page = await asyncio.to_thread(self._store.list, self._folder, self.after, LISTED)
        self.after = page[-1].name if len(page) == LISTED else ""
        return page

    async def unknown(
        self, page: list[ListedBlob], shards: int, *, older_than: float = OLD
    ) -> list[ListedBlob]:
        """Return those of a page that are older, and that no shard knows."""
        found = [one for one in page if one.age > older_than]
        for shard in range(shards) if found else ():
            keys = shard_keys(self._app, shard)
            there = await self._transport.run(calls.known(keys, [one.name for one in found]))
            found = [one for one, known in zip(found, there, strict=True) if not known]
            if not found:
                break
        return found

    async def remove(self, orphans: list[ListedBlob]) -> int:
        """Remove these; return how many."""
        if orphans:
            await asyncio.to_thread(self._store.delete, [one.name for one in orphans])
        return len(orphans)

    async def remove_orphans(self, shards: int) -> int:
        """Remove the orphans of the next page; return how many. Raises what the store does."""
        return await self.remove(await self.unknown(await self.page(), shards))


async def book(app: str, shards: int, transport: Runs) -> tuple[int, int]:
    """Return how many blobs living tasks have, and how many others there are."""
    living = others = 0
    for shard in range(shards):
        keys = shard_keys(app, shard)
        living += await transport.run(calls.count(keys, calls.LIVES, "+inf"))
        others += await transport.run(calls.count(keys, "-inf", f"({calls.LIVES}"))
    return living, others


async def missing(app: str, shards: int, transport: Runs, blobs: Blobs) -> list[str]:
    """Return the names of blobs of living tasks that the store does not have."""
    found: list[str] = []
    for shard in range(shards):
        keys, first = shard_keys(app, shard), 0
        while names := await transport.run(calls.living(keys, first, LISTED)):
            first += len(names)
            found += await asyncio.to_thread(_not_in, blobs, names)
    return found


def _not_in(blobs: Blobs, names: list[str]) -> list[str]:
    return [name for name in names if not any(one.name == name for one in blobs.store.list(name, "", 1))]
