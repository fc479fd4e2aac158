"""How flows go on in a queue under test: what workers do after they settled a node, and a daemon later.

Owns the part of both that a test needs, with the steps that they use. Must not move the clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from streamq.calls import flows as flow_calls
from streamq.flow import drive
from streamq.flows.advancing import advance
from streamq.flows.inputs import payload_of
from streamq.flows.keeping import keep
from streamq.keys import ShardKeys
from streamq.model.delivery import Delivery
from streamq.registry.registry import Registry
from streamq.transport.sync_transport import SyncTransport

_PAGE: Final = 200
_ROUNDS: Final = 1_000


class FlowSteps:
    """Of one app on one server."""

    def __init__(self, registry: Registry, transport: SyncTransport) -> None:
        self._registry, self._transport = registry, transport

    async def payload(self, delivery: Delivery) -> bytes:
        """Return the payload of a node's task, with what it needs of others. Waits for no event loop."""
        return drive(self._transport, payload_of(self._registry.name, delivery))

    def go_on(self, shards: Iterable[ShardKeys]) -> None:
        """Let everything run that may, and end what was cancelled."""
        for s in shards:
            self._advance(s)
            self._keep(s)

    def _advance(self, s: ShardKeys) -> None:
        before: object = None
        for _ in range(_ROUNDS):
            behind = self._transport.run(flow_calls.behind(s, 0, _PAGE))
            if not behind.rows or behind.rows == before:  # what is damaged stays
                return
            before = behind.rows
            rows: dict[str, list[str]] = {}
            for one in behind.rows:
                rows.setdefault(one.flow, []).append(one.what)
            for flow, what in rows.items():
                ends = [row for row in what if row != "look"]
                drive(self._transport, advance(s, flow, ends, pipeline=self._registry.pipeline))

    def _keep(self, s: ShardKeys) -> None:
        now = self._transport.run(flow_calls.behind(s, 0, 0)).now
        for flow in self._transport.run(flow_calls.due(s, now, _PAGE)):
            drive(self._transport, keep(s, flow, now))

    def next_ms(self, shards: Iterable[ShardKeys]) -> list[int | None]:
        """Return when a flow of each shard is to be looked after, and when the next of its timers ends, in ms
        since the epoch."""
        found: list[int | None] = []
        for s in shards:
            now = self._transport.run(flow_calls.behind(s, 0, 0)).now
            found.append(self._transport.run(flow_calls.next_look(s)))
            found.append(self._transport.run(flow_calls.next_timer(s, now)))
        return found
