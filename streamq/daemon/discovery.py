"""The list of apps, shards and task types on the server, refreshed periodically.

Owns that list. A new type appears at the next refresh; its first delayed task wakes the promoter before that.
Must not write to Redis.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import question as question_calls
from streamq.daemon.loop import Faults, for_each
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model.task import NAME_PATTERN, TYPE_PATTERN
from streamq.shards import AppRecord
from streamq.transport.async_transport import AsyncTransport

TYPES_AT_ONCE: Final = 50


@dataclass
class Discovery:
    """The apps, shards and types. `only` limits them to one app; `changes` increases when the list changes.

    All shards of an app that may hold tasks are listed, even if its code now uses fewer.
    """

    transport: AsyncTransport
    only: str | None = None
    changes: int = 0
    _types: dict[ShardKeys, list[TypeKeys]] = field(default_factory=dict)

    async def apps(self) -> dict[str, AppRecord]:
        """Return the records of the namespace's apps."""
        return await self.transport.run(question_calls.apps(self.transport.address.namespace), patience=0)

    async def refresh(self, faults: Faults) -> None:
        """Read the list again. Names that streamq cannot have written are skipped."""
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
        # If a shard's server is unreachable, its types stay listed.
        found = {keys: self._types.get(keys, []) for keys in listed}

        async def types(keys: ShardKeys) -> None:
            names = await self.transport.run(question_calls.types(keys), patience=0)
            good = [name for name in names if TYPE_PATTERN.fullmatch(name)]
            found[keys] = [type_keys(keys.app, keys.shard, name) for name in good]

        try:
            await for_each(listed, types, faults)
        finally:
            self.changes += found != self._types
            self._types = found

    def types(self) -> list[TypeKeys]:
        """Return every task type of every shard."""
        return [keys for listed in self._types.values() for keys in listed]

    def shards(self) -> list[tuple[ShardKeys, list[TypeKeys]]]:
        """Return every shard with its task types."""
        return list(self._types.items())

    def batches(self, most: int) -> list[list[TypeKeys]]:
        """Return all task types in batches of at most `most`; the types of a batch are in the same shard."""
        return [listed[n : n + most] for listed in self._types.values() for n in range(0, len(listed), most)]

    async def survey(self, types: list[TypeKeys]) -> list[daemon_calls.Survey]:
        """Return the length and pending counts of all streams of types of one shard, in bounded steps."""
        found: list[daemon_calls.Survey] = []
        for n in range(0, len(types), TYPES_AT_ONCE):
            listed = await self.transport.run(daemon_calls.survey(types[n : n + TYPES_AT_ONCE]), patience=0)
            found += listed
        return found

    def serves(self, app: str) -> bool:
        """Return whether this daemon serves the app: its name is valid and not excluded by `only`."""
        return NAME_PATTERN.fullmatch(app) is not None and self.only in (None, app)
