"""How many tasks a worker fetches ahead: so many that a slot which is freed finds one.

Owns that measurement of busy time. Reads the monotonic clock.
"""

from __future__ import annotations

import time
from typing import Final

AHEAD: Final = 0.05
"""Seconds of work that are fetched ahead, so that a slot which is freed finds a task while the next ones
are under way; a task of an otherwise idle queue waits no longer than that for a slot of another worker."""
MOST_AHEAD: Final = 1000
_REMEMBERED: Final = 0.1
"""Seconds of busy time after which what was measured before counts half."""


class Prefetch:
    """Of one worker. ahead: tasks to fetch beyond the free slots. ended: attempts in this busy time."""

    def __init__(self) -> None:
        self.ahead: int = 0
        self.ended: int = 0
        self._since = 0.0
        self._busy = (0.0, 0.0)

    def begin(self) -> None:
        """A busy time begins."""
        self._since, self.ended = time.monotonic(), 0

    def measure(self) -> None:
        """Learn from the busy time that ends how many tasks are done in `AHEAD`."""
        if not self.ended:
            return
        now = time.monotonic()
        count, seconds = self._busy[0] + self.ended, self._busy[1] + now - self._since
        self.ahead = min(MOST_AHEAD, int(count / seconds * AHEAD))
        self._busy = (count / 2, seconds / 2) if seconds > _REMEMBERED else (count, seconds)
        self.ended, self._since = 0, now
