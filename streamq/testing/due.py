"""What becomes due in a queue under test: delayed tasks, retries, runs of schedules, lanes and flows.

Owns the part of a daemon that a test needs, with the scripts that a daemon uses: it makes ready what is due,
and says when the next is. Must not move the clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Final

from streamq.calls import daemon as daemon_calls
from streamq.calls import listing as listing_calls
from streamq.calls import operator as operator_calls
from streamq.calls import producer as producer_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls import worker as worker_calls
from streamq.control.schedules import declared
from streamq.daemon import schedule_step
from streamq.flow import drive
from streamq.keys import SUCCESSOR_DUE_MS, ShardKeys, TypeKeys, shard_keys, type_keys
from streamq.model.task import TaskId
from streamq.registry.registry import Registry
from streamq.testing.flow_steps import FlowSteps
from streamq.transport.sync_transport import SyncTransport

_PAGE: Final = 200


class Due:
    """Of one app on one server, which is registered there as a worker would do it."""

    def __init__(self, registry: Registry, transport: SyncTransport) -> None:
        self._registry, self._transport = registry, transport
        self._known: set[tuple[str, int]] = set()
        self.flows: FlowSteps = FlowSteps(registry, transport)

    def lines(self) -> list[TypeKeys]:
        """Return the keys of each task type in each shard; their groups exist then."""
        new = [name for name in self._registry.handlers if (name, 0) not in self._known]
        if new:
            self._register(new)
        shards = range(self._registry.shards)
        return [
            type_keys(self._registry.name, shard, name)
            for shard in shards
            for name in self._registry.handlers
        ]

    def _register(self, names: list[str]) -> None:
        app, shards = self._registry.name, self._registry.shards
        self._transport.run(producer_calls.announce(app, shards))
        for name in names:
            handler = self._registry.handlers[name]
            for shard in range(shards):
                t, policy = type_keys(app, shard, name), handler.options.policy()
                call = producer_calls.register(t, shard_keys(app, shard), handler.reference, policy)
                self._transport.run(call)
                self._transport.run(worker_calls.groups(t.streams))
                self._known.add((name, shard))
        handlers = [self._registry.handlers[name] for name in self._registry.declared(names)]
        if handlers:
            drive(self._transport, declared(app, shards, handlers))

    def make_ready(self) -> None:
        """Move what is due to the streams, and let flows go on."""
        self._make_runs()
        self.flows.go_on(self._shards())
        lines = self.lines()
        for _, some in groupby(lines, lambda t: t.shard):
            types = list(some)
            left, lanes = self._transport.run(daemon_calls.next_promotion(types))
            for t, ms, laned in zip(types, left, lanes, strict=True):
                if ms is not None and ms <= 0:
                    self._promote(t, rich=bool(laned))

    def _promote(self, t: TypeKeys, *, rich: bool) -> None:
        while self._transport.run(daemon_calls.promote(t, _PAGE, rich=rich)).moved:
            pass

    def _make_runs(self) -> None:
        """Make the runs of schedules that are due."""
        for shard in self._shards():
            seen: set[tuple[str, bool, str]] = set()
            while True:
                due = self._transport.run(schedule_calls.due(shard, 0, _PAGE))
                fresh = [row for row in due.rows if row.key not in seen]
                if not fresh:
                    break
                for row in fresh:
                    seen.add(row.key)
                    drive(self._transport, schedule_step.take(shard, row, due.now_ms))

    def next_ms(self) -> float | None:
        """Return when the next is due, in ms since the epoch; None if nothing waits for a time."""
        found = [self._transport.run(schedule_calls.due(shard, 0, 1)).next_ms for shard in self._shards()]
        found.extend(self.flows.next_ms(self._shards()))
        for t in self.lines():
            heads = self._transport.run(daemon_calls.heads([t.schedule, t.ripe]))
            found.extend(heads)
        return min((ms for ms in found if ms is not None), default=None)

    def _shards(self) -> Iterator[ShardKeys]:
        self.lines()  # so that the schedules in the code are there
        return (shard_keys(self._registry.name, shard) for shard in range(self._registry.shards))

    def run_now(self, t: TypeKeys, local: str) -> None:
        """Make one task ready before its time."""
        self._transport.run(operator_calls.run_now(t, local))

    def scheduled(self) -> dict[str, int]:
        """Return when each task that waits for its time is due, by id; the next first."""
        found: dict[str, int] = {}
        for t in self.lines():
            for row in self._rows(t):
                if row.at_ms < SUCCESSOR_DUE_MS:
                    found[str(TaskId(t.type, t.shard, row.local))] = row.at_ms
        return dict(sorted(found.items(), key=lambda one: one[1]))

    def _rows(self, t: TypeKeys) -> Iterator[listing_calls.Row]:
        cursor = ""
        while True:
            page = self._transport.run(listing_calls.page_schedule(t, cursor, _PAGE))
            yield from page.rows
            cursor = page.cursor
            if not cursor:
                return
