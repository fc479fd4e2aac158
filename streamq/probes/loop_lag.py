"""Measures event loop lag: how late the loop runs its timers.

Owns that measurement, at the cost of one timer every half second. Must not judge it: see `health`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from streamq.telemetry.counters import Counters

INTERVAL: Final = 0.5


class LoopLag:
    """Measures until cancelled. `on_tick` is called at each measurement, in the loop."""

    def __init__(self, counters: Counters, on_tick: Callable[[], None] = lambda: None) -> None:
        self._lag = counters.histogram("streamq_event_loop_lag_seconds")
        self._on_tick = on_tick
        self._next = time.monotonic() + INTERVAL

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            now = time.monotonic()
            self._lag.observe(max(0.0, now - self._next))
            self._next = now + INTERVAL
            self._on_tick()

    def seconds_late(self) -> float:
        """Return how late the loop is for its next timer. May be called from another thread."""
        return max(0.0, time.monotonic() - self._next)
