"""What the sync and the async client share.

Owns what has been registered, the next shard, and the flow of a durable enqueue call. Does no I/O.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

from streamq.calls.call import Call
from streamq.calls.producer import NeedsLane
from streamq.client import flows
from streamq.client.durability import LONGEST_WAIT, Confirmation
from streamq.flow import Flow
from streamq.keys import ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model.task import Answer, NewTask
from streamq.options.checks import Durability
from streamq.registry.registry import Registry
from streamq.transport.address import Address


class Base:
    """The app, its keys, and which task types are registered."""

    def __init__(self, registry: Registry, address: Address, patience: float) -> None:
        self.registry = registry
        self._patience = patience
        # The server's wait ends well before its reply counts as late.
        self._longest_wait = float(address.arguments.get("socket_timeout", 2 * LONGEST_WAIT)) / 2
        self._registered: set[tuple[str, int]] = set()
        self._can_aof = False
        self._keys: dict[tuple[str, int], tuple[TypeKeys, ShardKeys]] = {}
        self._calls = itertools.count()

    def keys(self, task_type: str, shard: int) -> tuple[TypeKeys, ShardKeys]:
        """Return the keys of a task type in a shard."""
        found = self._keys.get((task_type, shard))
        if found is None:
            app = self.registry.name
            found = type_keys(app, shard, task_type), shard_keys(app, shard)
            self._keys[(task_type, shard)] = found
        return found

    def next_shard(self) -> int:
        """Return the shard of the next task that may go to any."""
        return next(self._calls) % self.registry.shards

    def with_lanes(self, task_type: str, tasks: Sequence[NewTask], needs: NeedsLane) -> list[NewTask]:
        """Return tasks that were sent by name with the lanes that their arguments name. Raises UsageError."""
        from streamq.client import lanes  # noqa: PLC0415 - few types have lanes

        return lanes.named(tasks, needs.argument, task_type, self.registry.name)

    def _durably(
        self, keys: TypeKeys, call: Call[list[Answer]], durability: Durability
    ) -> Flow[Sequence[Answer]]:
        confirmation = Confirmation(time.monotonic() + self._patience, self._longest_wait)
        return flows.make_durable(keys, call, durability, confirmation)
