"""The status of a worker process, for heartbeats, probes and scrapers, collected from its parts.

Owns the worker's health facts and gauges. Must not change anything; most of it is called from other threads.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

import orjson

from streamq.features import SPEAKS
from streamq.probes import health
from streamq.probes.health import Facts
from streamq.probes.loop_lag import LoopLag
from streamq.probes.report import Report
from streamq.telemetry.counters import Counters, Snapshot
from streamq.version import package_version
from streamq.worker.config import WorkerConfig
from streamq.worker.in_flight import InFlight
from streamq.worker.runner import Runner
from streamq.worker.shard_fetchers import ShardFetchers
from streamq.worker.too_new import TooNewTasks

REPLY_TIMEOUT: Final = 5.0
"""Seconds that a reply may take beyond the time a read blocks: the transport's limit."""


class WorkerStatus:
    """The status of one worker. lease_ms: returns the lease of all deliveries in flight. leases_unreachable:
    returns since when Redis has been unreachable for the lease thread. on_tick: called twice a second."""

    def __init__(
        self,
        config: WorkerConfig,
        runner: Runner,
        shard_fetchers: ShardFetchers,
        in_flight: InFlight,
        too_new: TooNewTasks,
        lease_ms: Callable[[], int],
        leases_unreachable: Callable[[], float],
        on_tick: Callable[[], None],
    ) -> None:
        self._worker, self._group = config.name, config.group
        self._started_at = time.time()
        self._registry, self._types, self._options = config.registry, config.types, config.options
        self._counters = config.counters
        self._loop_lag = LoopLag(config.counters, self._tick)
        self._could_read_since = 0.0
        self._runner, self._shard_fetchers, self._in_flight = runner, shard_fetchers, in_flight
        self._too_new, self._lease_ms = too_new, lease_ms
        self._leases_unreachable, self._on_tick = leases_unreachable, on_tick

    async def measure(self) -> None:
        """Measure until cancelled, in the worker's event loop."""
        await self._loop_lag.run()

    def _tick(self) -> None:
        """Record since when the worker has had room for tasks."""
        self._on_tick()
        runner, handlers = self._runner, self._registry.handlers
        has_room = runner.room() > 0 and any(runner.room_for(handlers[name]) > 0 for name in self._types)
        if not has_room:
            self._could_read_since = 0.0
        elif not self._could_read_since:
            self._could_read_since = time.monotonic()

    def heartbeat(self, shard: int, *, draining: bool) -> bytes:
        """Return the payload of a heartbeat: all details for the first shard, the lease for the others."""
        if shard > 0:
            return orjson.dumps({"lease_ms": self._lease_ms()})
        running, declared = self._runner.running(), self._registry.declared(self._types)
        versions = {n: v for n in self._types if (v := self._registry.handlers[n].options.version) > 1}
        return orjson.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "group": self._group,
                "version": package_version(),
                "speaks": sorted(SPEAKS),
                "too_new": self._too_new.counts(),
                "types": self._types,
                **({"schedules": declared} if declared else {}),
                **({"versions": versions} if versions else {}),
                "concurrency": self._options.concurrency,
                "heartbeat": self._options.heartbeat,
                "lease_ms": self._lease_ms(),
                "started_at": self._started_at,
                "draining": draining,
                "problems": self.problems(),
                "held": len(self._in_flight),
                "running_count": len(running),
                "running": [
                    {
                        "id": str(task.id),
                        "since_ms": self._runner.clocks.ms(attempt.since, task.shard),
                        "attempt": task.attempt,
                    }
                    for attempt in running[:100]
                    for task in [attempt.held.delivery]
                ],
            }
        )

    def problems(self) -> list[str]:
        """Return the reasons why new tasks would not be worked on."""
        return health.not_ready(self._facts(draining=False))

    def report(self, *, started: bool, draining: bool) -> Report:
        """Return the worker's health and metrics."""
        if not started:
            return starting_report(self._worker, self._counters)
        facts, found = self._facts(draining=draining), self._counters.snapshot()
        self._gauges(found)
        found.set("streamq_ready", facts.role, value=int(not health.not_ready(facts)))
        return Report(facts, found)

    def _facts(self, *, draining: bool) -> Facts:
        now = time.monotonic()
        since = [fetcher.unreachable_since for fetcher in self._shard_fetchers.fetchers]
        outages = [start for start in (self._leases_unreachable(), *since) if start]
        return Facts(
            self._worker,
            draining=draining,
            loop_late=self._loop_lag.seconds_late(),
            not_reading=0.0 if draining else self._not_reading(now),
            redis_unreachable=now - min(outages) if outages else 0.0,
        )

    def _not_reading(self, now: float) -> float:
        """Return how long a fetcher that could read has not, in seconds beyond a read's own limit."""
        since = self._could_read_since
        if not since:
            return 0.0
        longest = self._options.block + REPLY_TIMEOUT
        reading = [
            max(since, fetcher.last_read)
            for fetcher in self._shard_fetchers.fetchers
            if not fetcher.unreachable_since
        ]
        return max([0.0, *(now - last - longest for last in reading)])

    def _gauges(self, found: Snapshot) -> None:
        app, now = self._registry.name, time.monotonic()
        found.set("streamq_worker_slots", app, value=self._options.concurrency)
        found.set("streamq_worker_held", app, value=len(self._in_flight))
        running = self._runner.running()
        counted = Counter(attempt.held.delivery.type for attempt in running)
        oldest: dict[str, float] = {}
        for attempt in running:
            oldest.setdefault(attempt.held.delivery.type, now - (attempt.since or now))
        for name in self._types:
            found.set("streamq_worker_running", app, name, value=counted[name])
            found.set("streamq_worker_oldest_running_seconds", app, name, value=oldest.get(name, 0.0))


def starting_report(worker: str, counters: Counters) -> Report:
    """Return the report of a worker that has not started to serve."""
    facts, found = Facts(worker, started=False), counters.snapshot()
    found.set("streamq_ready", facts.role, value=int(not health.not_ready(facts)))
    return Report(facts, found)
