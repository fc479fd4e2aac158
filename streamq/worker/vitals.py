"""How a worker process is: what heartbeats, probes and scrapers are told, gathered from its parts.

Owns the worker's facts and gauges. Changes nothing; most of it is asked from another thread.
"""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from typing import Final

import orjson

from streamq.app import Registry
from streamq.options import WorkerOptions
from streamq.release import package_version
from streamq.telemetry import health
from streamq.telemetry.health import Facts
from streamq.telemetry.pulse import Pulse
from streamq.telemetry.report import Report
from streamq.telemetry.sums import Snapshot, Sums
from streamq.worker.crew import Crew
from streamq.worker.holdings import Holdings
from streamq.worker.leases import LeaseKeeper
from streamq.worker.meter import Meter
from streamq.worker.runner import Runner

ANSWER: Final = 5.0
"""Seconds that an answer may take beyond the time a read blocks: the transport's limit."""


class Vitals:
    """Of one worker. `attach` tells it the parts when they are made; `beat` runs in the worker's loop."""

    _runner: Runner
    _crew: Crew
    _leases: LeaseKeeper
    _holdings: Holdings

    def __init__(
        self,
        worker: str,
        group: str,
        registry: Registry,
        types: list[str],
        options: WorkerOptions,
        sums: Sums,
    ) -> None:
        self._worker, self._group = worker, group
        self._started_at = time.time()
        self._registry = registry
        self._types = types
        self._options = options
        self._sums = sums
        self._pulse = Pulse(sums, self._look)
        self._could_read_since = 0.0
        self.meter: Meter | None = None

    def attach(self, runner: Runner, crew: Crew, leases: LeaseKeeper, holdings: Holdings) -> None:
        self._runner, self._crew = runner, crew
        self._leases, self._holdings = leases, holdings

    async def beat(self) -> None:
        """Show until cancelled that the event loop turns."""
        await self._pulse.run()

    def _look(self) -> None:
        """At each beat: since when could we take tasks?"""
        if self.meter is not None:
            self.meter.adapt()
        runner, handlers = self._runner, self._registry.handlers
        could = runner.room() > 0 and any(runner.room_for(handlers[name]) > 0 for name in self._types)
        if not could:
            self._could_read_since = 0.0
        elif not self._could_read_since:
            self._could_read_since = time.monotonic()

    def heartbeat(self, shard: int, *, draining: bool) -> bytes:
        """The details that a heartbeat tells: all to the first shard, to the others what reclaim needs."""
        if shard > 0:
            return orjson.dumps({"lease_ms": self._leases.lease_ms})
        running = self._runner.running()
        return orjson.dumps(
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "group": self._group,
                "version": package_version(),
                "types": self._types,
                "concurrency": self._options.concurrency,
                "heartbeat": self._options.heartbeat,
                "lease_ms": self._leases.lease_ms,
                "started_at": self._started_at,
                "draining": draining,
                "problems": self.problems(),
                "held": len(self._holdings),
                "running_count": len(running),
                "running": [
                    {
                        "id": str(held.delivery.id),
                        "since_ms": self._runner.clocks.ms(held.started or 0.0, held.delivery.shard),
                        "attempt": held.delivery.attempt,
                    }
                    for held in running[:100]
                ],
            }
        )

    def problems(self) -> list[str]:
        """Why tasks would not be worked on, for the heartbeat."""
        return health.not_ready(self._facts(draining=False))

    def report(self, *, started: bool, draining: bool) -> Report:
        """How the worker is, and its sums."""
        facts = self._facts(draining=draining) if started else Facts(self._worker, started=False)
        found = self._sums.snapshot()
        if started:
            self._gauges(found)
        found.set("streamq_ready", facts.role, value=int(not health.not_ready(facts)))
        return Report(facts, found)

    def _facts(self, *, draining: bool) -> Facts:
        now = time.monotonic()
        since = [self._leases.away_since, *(fetcher.away_since for fetcher in self._crew.fetchers)]
        away = [one for one in since if one]
        return Facts(
            self._worker,
            draining=draining,
            loop_silent=self._pulse.silent(),
            deaf=0.0 if draining else self._deaf(now),
            redis_away=now - min(away) if away else 0.0,
        )

    def _deaf(self, now: float) -> float:
        """Seconds for which a fetcher that could read has not, beyond what one read may take."""
        since = self._could_read_since
        if not since:
            return 0.0
        longest = self._options.block + ANSWER
        reading = [max(since, fetcher.last_read) for fetcher in self._crew.fetchers if not fetcher.away_since]
        return max([0.0, *(now - last - longest for last in reading)])

    def _gauges(self, found: Snapshot) -> None:
        app, now = self._registry.name, time.monotonic()
        found.set("streamq_worker_slots", app, value=self._options.concurrency)
        found.set("streamq_worker_held", app, value=len(self._holdings))
        running = self._runner.running()
        counted = Counter(held.delivery.type for held in running)
        oldest: dict[str, float] = {}
        for held in running:
            oldest.setdefault(held.delivery.type, now - (held.started or now))
        for name in self._types:
            found.set("streamq_worker_running", app, name, value=counted[name])
            found.set("streamq_worker_oldest_running_seconds", app, name, value=oldest.get(name, 0.0))
