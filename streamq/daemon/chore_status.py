"""What became of the chores' rounds: when each was last good, and since when the server is away.

Owns that book, from which a daemon's health is told.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from streamq.telemetry.counters import Counters

MISSED: Final = 3
"""Intervals after which a chore is overdue, and at least a minute."""
FADED: Final = 120.0
"""Seconds after which a fault that was not met again is told no more."""
MOST_FAULTS: Final = 100
LONGEST_FAULT: Final = 300


class ChoreStatus:
    """Written by the chores' loops; read by probes. `returning`: the one wait for a server that is away."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._good: dict[str, tuple[float, float]] = {}
        self._away_since = 0.0
        self._began = time.monotonic()
        self._faults: dict[tuple[str, str], float] = {}
        self.returning: asyncio.Task[None] | None = None

    def good(self, chore: str, *, partly: bool = False) -> None:
        """A round is over; partly: what is wrong with one type or stream kept it from no other."""
        self._counters.count("streamq_daemon_rounds_total", chore, "partly" if partly else "ok")
        self._good[chore] = time.monotonic(), time.time()

    def failed(self, chore: str) -> None:
        self._counters.count("streamq_daemon_rounds_total", chore, "failed")

    def fault(self, chore: str, about: dict[str, Any], error: str) -> bool:
        """What is wrong with one app, shard or type; answers whether it is new."""
        where = ":".join(str(about[name]) for name in ("app", "shard", "type") if name in about)
        known, now = self.faults(), time.monotonic()
        text = f"{where}: {error}"[:LONGEST_FAULT]
        if len(self._faults) < MOST_FAULTS:
            self._faults[chore, text] = now
        return f"{chore} {text}" not in known

    def faults(self) -> list[str]:
        """What was wrong in the last rounds, by chore and place; it kept no other from being served."""
        since = time.monotonic() - FADED
        self._faults = {fault: at for fault, at in list(self._faults.items()) if at >= since}
        return [f"{chore} {text}" for chore, text in list(self._faults)]

    def lost(self, chore: str) -> None:
        """The server is away."""
        self.failed(chore)
        self._counters.count("streamq_redis_errors_total", chore)
        self._away_since = self._away_since or time.monotonic()

    def found(self, chore: str) -> None:
        """It is there again."""
        self._counters.count("streamq_redis_reconnects_total", chore)
        self._away_since = 0.0

    def away(self) -> float:
        """Seconds for which the server has been away."""
        return time.monotonic() - self._away_since if self._away_since else 0.0

    def overdue(self, intervals: dict[str, float]) -> list[str]:
        """The chores whose last good round is too long ago. None is while the server is away."""
        now = time.monotonic()
        if self._away_since:
            return []
        return [
            chore
            for chore, interval in intervals.items()
            if now - self._good.get(chore, (self._began, 0.0))[0] > max(60.0, MISSED * interval)
        ]

    def last_good(self) -> dict[str, float]:
        """When each chore's last good round ended, by the wall clock."""
        return {chore: wall for chore, (_, wall) in self._good.items()}
