"""The pulse of an event loop: that it comes to its timers, and how late.

Owns that measurement. Costs one timer every half second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from streamq.telemetry.counters import Counters

INTERVAL: Final = 0.5


class LoopLag:
    """Beats until cancelled; `also` is called at each beat, in the loop."""

    def __init__(self, counters: Counters, also: Callable[[], None] = lambda: None) -> None:
        self._lag = counters.histogram("streamq_event_loop_lag_seconds")
        self._also = also
        self._next = time.monotonic() + INTERVAL

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            now = time.monotonic()
            self._lag.observe(max(0.0, now - self._next))
            self._next = now + INTERVAL
            self._also()

    def silent(self) -> float:
        """Seconds for which the loop is late; may be asked from another thread."""
        return max(0.0, time.monotonic() - self._next)
