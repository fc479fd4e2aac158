"""What became of the chores' rounds: when each was last good, and since when the server is away.

Owns that book, from which a daemon's health is told.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from streamq.telemetry.sums import Sums

MISSED: Final = 3
"""Intervals after which a chore is overdue, and at least a minute."""


class Rounds:
    """Written by the chores' loops; read by probes. `returning`: the one wait for a server that is away."""

    def __init__(self, sums: Sums) -> None:
        self._sums = sums
        self._good: dict[str, tuple[float, float]] = {}
        self._away_since = 0.0
        self._began = time.monotonic()
        self.returning: asyncio.Task[None] | None = None

    def good(self, chore: str, *, partly: bool = False) -> None:
        """A round is over; partly: what is wrong with one type or stream kept it from no other."""
        self._sums.count("streamq_daemon_rounds_total", chore, "partly" if partly else "ok")
        self._good[chore] = time.monotonic(), time.time()

    def failed(self, chore: str) -> None:
        self._sums.count("streamq_daemon_rounds_total", chore, "failed")

    def lost(self, chore: str) -> None:
        """The server is away."""
        self.failed(chore)
        self._sums.count("streamq_redis_errors_total", chore)
        self._away_since = self._away_since or time.monotonic()

    def found(self, chore: str) -> None:
        """It is there again."""
        self._sums.count("streamq_redis_reconnects_total", chore)
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
