"""Which apps, shards and task types there are on the server, looked up now and then.

Owns that list. A type that is new is seen at the next look; its first delayed task wakes the promoter before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import question as question_calls
from streamq.daemon.loop import Faults, for_each
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model.task import NAME_PATTERN
from streamq.shards import AppRecord
from streamq.transport.async_transport import AsyncTransport

TYPES_AT_ONCE: Final = 50


@dataclass
class Discovery:
    """What there is. `only` limits it to one app; `changes` grows when the list is another.

    Of each app all shards are listed that may hold something, whatever number its code has by now.
    """

    transport: AsyncTransport
    only: str | None = None
    changes: int = 0
    _types: dict[ShardKeys, list[TypeKeys]] = field(default_factory=dict)

    async def apps(self) -> dict[str, AppRecord]:
        """What the server knows of the apps of our namespace."""
        return await self.transport.run(question_calls.apps(self.transport.address.namespace), patience=0)

    async def look(self, faults: Faults) -> None:
        """Read the list anew. Names that streamq would not have written are left out."""
        apps = await self.apps()
        if self.only is not None:
            name = self.transport.address.namespace.app(self.only)
            apps = {name: apps.get(name, AppRecord())}
        listed = [
            shard_keys(app, shard)
            for app, record in apps.items()
            if self.serves(app)
            for shard in range(record.known)
        ]
        # What is known of a shard whose server is away stays known.
        found = {keys: self._types.get(keys, []) for keys in listed}

        async def types(keys: ShardKeys) -> None:
            names = await self.transport.run(question_calls.types(keys), patience=0)
            good = [name for name in names if NAME_PATTERN.fullmatch(name)]
            found[keys] = [type_keys(keys.app, keys.shard, name) for name in good]

        try:
            await for_each(listed, types, faults)
        finally:
            self.changes += found != self._types
            self._types = found

    def types(self) -> list[TypeKeys]:
        """Every task type of every shard."""
        return [keys for listed in self._types.values() for keys in listed]

    def shards(self) -> list[tuple[ShardKeys, list[TypeKeys]]]:
        """Every shard with its task types."""
        return list(self._types.items())

    def bundles(self, most: int) -> list[list[TypeKeys]]:
        """All task types, so many at most together; those together are of one shard."""
        return [listed[n : n + most] for listed in self._types.values() for n in range(0, len(listed), most)]

    async def survey(self, types: list[TypeKeys]) -> list[daemon_calls.Survey]:
        """All streams of types of one shard at a glance, in bounded steps."""
        found: list[daemon_calls.Survey] = []
        for n in range(0, len(types), TYPES_AT_ONCE):
            listed = await self.transport.run(daemon_calls.survey(types[n : n + TYPES_AT_ONCE]), patience=0)
            found += listed
        return found

    def serves(self, app: str) -> bool:
        """Whether this app is ours to serve, and its name one that streamq would have written."""
        return NAME_PATTERN.fullmatch(app) is not None and self.only in (None, app)
