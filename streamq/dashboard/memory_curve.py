"""The server's memory over the last hour, as far as this dashboard has looked at it.

Owns the points, a bounded number. They are in this process only: Prometheus keeps what must outlast it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

KEPT: Final = 3600.0
"""Seconds that a point is kept."""
STEP: Final = 5.0
"""Seconds between two points at least."""


class Curve(NamedTuple):
    """The memory in bytes, oldest first, and over how many seconds."""

    values: list[int]
    seconds: float


class MemoryCurve:
    """Collects points. Safe to share between threads. clock: seconds, of any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._points: deque[tuple[float, int]] = deque()

    def note(self, used: int) -> None:
        """Add a point, if the last one is old enough."""
        now = self._clock()
        with self._lock:
            if used > 0 and (not self._points or now - self._points[-1][0] >= STEP):
                self._points.append((now, used))
            while self._points and now - self._points[0][0] > KEPT:
                self._points.popleft()

    def curve(self) -> Curve:
        """Return the points of the last hour."""
        with self._lock:
            points = list(self._points)
        return Curve([used for _, used in points], points[-1][0] - points[0][0] if points else 0.0)
