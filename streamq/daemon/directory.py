"""Which apps, shards and task types there are on the server, looked up now and then.

Owns that list. A type that is new is seen when its first delayed task wakes the daemon, or at the next
look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from streamq import calls
from streamq.inspector import shards_of
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model import NAME_PATTERN
from streamq.transport import AsyncTransport


@dataclass
class Directory:
    """What there is. `only` limits it to one app."""

    transport: AsyncTransport
    only: str | None = None
    _types: dict[ShardKeys, list[TypeKeys]] = field(default_factory=dict)

    async def look(self) -> None:
        """Read the list anew. Names that streamq would not have written are left out."""
        apps = await self.transport.run(calls.apps(), patience=0)
        if self.only is not None:
            apps = {self.only: apps.get(self.only, b"{}")}
        found: dict[ShardKeys, list[TypeKeys]] = {}
        for app, details in apps.items():
            if not NAME_PATTERN.fullmatch(app):
                continue
            for shard in range(shards_of(details)):
                keys = shard_keys(app, shard)
                names = await self.transport.run(calls.types(keys), patience=0)
                found[keys] = [type_keys(app, shard, name) for name in names if NAME_PATTERN.fullmatch(name)]
        self._types = found

    def types(self) -> list[TypeKeys]:
        """Every task type of every shard."""
        return [keys for listed in self._types.values() for keys in listed]

    def with_shards(self) -> Iterator[tuple[ShardKeys, TypeKeys]]:
        for shard, listed in list(self._types.items()):
            for keys in listed:
                yield shard, keys

    def of(self, app: str, shard: int) -> list[TypeKeys]:
        """The task types of one shard."""
        return self._types.get(shard_keys(app, shard), [])
