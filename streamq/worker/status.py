"""How a worker process is: what heartbeats, probes and scrapers are told, gathered from its parts.

Owns the worker's facts and gauges. Changes nothing; most of it is asked from another thread.
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

ANSWER: Final = 5.0
"""Seconds that an answer may take beyond the time a read blocks: the transport's limit."""


class WorkerStatus:
    """Of one worker. `beat` runs in the worker's loop, and calls `each_beat` there. lease_ms: the lease under
    which everything in hand is renewed."""

    def __init__(
        self,
        given: WorkerConfig,
        runner: Runner,
        shard_fetchers: ShardFetchers,
        in_flight: InFlight,
        behind: TooNewTasks,
        lease_ms: Callable[[], int],
        leases_away: Callable[[], float],
        each_beat: Callable[[], None],
    ) -> None:
        self._worker, self._group = given.name, given.group
        self._started_at = time.time()
        self._registry, self._types, self._options = given.registry, given.types, given.options
        self._counters = given.counters
        self._loop_lag = LoopLag(given.counters, self._look)
        self._could_read_since = 0.0
        self._runner, self._shard_fetchers, self._in_flight, self._behind = (
            runner,
            shard_fetchers,
            in_flight,
            behind,
        )
        self._lease_ms, self._leases_away, self._each_beat = lease_ms, leases_away, each_beat

    async def beat(self) -> None:
        """Show until cancelled that the event loop turns."""
        await self._loop_lag.run()

    def _look(self) -> None:
        """At each beat: since when could we take tasks?"""
        self._each_beat()
        runner, handlers = self._runner, self._registry.handlers
        could = runner.room() > 0 and any(runner.room_for(handlers[name]) > 0 for name in self._types)
        if not could:
            self._could_read_since = 0.0
        elif not self._could_read_since:
            self._could_read_since = time.monotonic()

    def heartbeat(self, shard: int, *, draining: bool) -> bytes:
        """The details that a heartbeat tells: all to the first shard, to the others what reclaim needs."""
        if shard > 0:
            return orjson.dumps({"lease_ms": self._lease_ms()})
        running, declared = self._runner.running(), self._registry.declared(self._types)
        return orjson.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "group": self._group,
                "version": package_version(),
                "speaks": sorted(SPEAKS),
                "too_new": self._behind.told(),
                "types": self._types,
                **({"schedules": declared} if declared else {}),
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
                        "since_ms": self._runner.clocks.ms(attempt.started or 0.0, task.shard),
                        "attempt": task.attempt,
                    }
                    for attempt in running[:100]
                    for task in [attempt.held.delivery]
                ],
            }
        )

    def problems(self) -> list[str]:
        """Why tasks would not be worked on, for the heartbeat."""
        return health.not_ready(self._facts(draining=False))

    def report(self, *, started: bool, draining: bool) -> Report:
        """How the worker is, and its sums."""
        if not started:
            return not_started(self._worker, self._counters)
        facts, found = self._facts(draining=draining), self._counters.snapshot()
        self._gauges(found)
        found.set("streamq_ready", facts.role, value=int(not health.not_ready(facts)))
        return Report(facts, found)

    def _facts(self, *, draining: bool) -> Facts:
        now = time.monotonic()
        since = [self._leases_away(), *(fetcher.away_since for fetcher in self._shard_fetchers.fetchers)]
        away = [one for one in since if one]
        return Facts(
            self._worker,
            draining=draining,
            loop_silent=self._loop_lag.silent(),
            deaf=0.0 if draining else self._deaf(now),
            redis_away=now - min(away) if away else 0.0,
        )

    def _deaf(self, now: float) -> float:
        """Seconds for which a fetcher that could read has not, beyond what one read may take."""
        since = self._could_read_since
        if not since:
            return 0.0
        longest = self._options.block + ANSWER
        reading = [
            max(since, fetcher.last_read)
            for fetcher in self._shard_fetchers.fetchers
            if not fetcher.away_since
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
            oldest.setdefault(attempt.held.delivery.type, now - (attempt.started or now))
        for name in self._types:
            found.set("streamq_worker_running", app, name, value=counted[name])
            found.set("streamq_worker_oldest_running_seconds", app, name, value=oldest.get(name, 0.0))


def not_started(worker: str, counters: Counters) -> Report:
    """How a worker is that has not begun."""
    facts, found = Facts(worker, started=False), counters.snapshot()
    found.set("streamq_ready", facts.role, value=int(not health.not_ready(facts)))
    return Report(facts, found)
