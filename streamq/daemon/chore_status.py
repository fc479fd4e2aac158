"""Per-chore status: last successful rounds, recent faults, and how long Redis has been unreachable.

Owns that state, from which a daemon's health is computed. Must not run a chore.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from streamq.telemetry.counters import Counters

OVERDUE_INTERVALS: Final = 3
"""Intervals without a successful round after which a chore is overdue; at least `OVERDUE_SECONDS`."""
OVERDUE_SECONDS: Final = 60.0
FAULT_LIFETIME: Final = 120.0
"""Seconds after which a fault that did not occur again is no longer reported."""
MAX_FAULTS: Final = 100
LONGEST_FAULT: Final = 300


class _Ended(NamedTuple):
    monotonic: float
    wall: float


class ChoreStatus:
    """Written by the chores' loops, read by probes. `reconnecting`: the task that waits for Redis to return,
    shared by all chores."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._succeeded: dict[str, _Ended] = {}
        self._unreachable_since = 0.0
        self._started = time.monotonic()
        self._faults: dict[tuple[str, str], float] = {}
        self.reconnecting: asyncio.Task[None] | None = None

    def succeeded(self, chore: str, *, partly: bool = False) -> None:
        """Record a completed round. `partly`: single apps, shards or types had faults."""
        self._counters.count("streamq_daemon_rounds_total", chore, "partly" if partly else "ok")
        self._succeeded[chore] = _Ended(time.monotonic(), time.time())

    def failed(self, chore: str) -> None:
        """Record a failed round."""
        self._counters.count("streamq_daemon_rounds_total", chore, "failed")

    def add_fault(self, chore: str, fields: Mapping[str, object], error: str) -> bool:
        """Record a fault of one app, shard or type, which `fields` names. Return whether it is new."""
        where = ":".join(str(fields[name]) for name in ("app", "shard", "type") if name in fields)
        known, now = self.faults(), time.monotonic()
        text = f"{where}: {error}"[:LONGEST_FAULT]
        if len(self._faults) < MAX_FAULTS:
            self._faults[chore, text] = now
        return f"{chore} {text}" not in known

    def faults(self) -> list[str]:
        """Return the recent faults of single apps, shards and types, each prefixed with its chore."""
        since = time.monotonic() - FAULT_LIFETIME
        self._faults = {fault: at for fault, at in list(self._faults.items()) if at >= since}
        return [f"{chore} {text}" for chore, text in list(self._faults)]

    def redis_lost(self, chore: str) -> None:
        """Record that Redis became unreachable during a round."""
        self.failed(chore)
        self._counters.count("streamq_redis_errors_total", chore)
        self._unreachable_since = self._unreachable_since or time.monotonic()

    def redis_returned(self, chore: str) -> None:
        """Record that Redis is reachable again."""
        self._counters.count("streamq_redis_reconnects_total", chore)
        self._unreachable_since = 0.0

    def unreachable_seconds(self) -> float:
        """Return how long Redis has been unreachable; 0 if it is reachable."""
        return time.monotonic() - self._unreachable_since if self._unreachable_since else 0.0

    def overdue(self, intervals: Mapping[str, float]) -> list[str]:
        """Return the chores whose last successful round is too long ago; empty while Redis is unreachable."""
        now = time.monotonic()
        if self._unreachable_since:
            return []
        never = _Ended(self._started, 0.0)
        return [
            chore
            for chore, interval in intervals.items()
            if now - self._succeeded.get(chore, never).monotonic
            > max(OVERDUE_SECONDS, OVERDUE_INTERVALS * interval)
        ]

    def last_success(self) -> dict[str, float]:
        """Return the wall clock time at which each chore's last successful round ended."""
        return {chore: ended.wall for chore, ended in self._succeeded.items()}
