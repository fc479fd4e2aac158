"""Computes how many tasks a worker fetches ahead, so that a freed slot finds a task.

Owns the measurement of busy periods. Reads the monotonic clock.
"""

from __future__ import annotations

import time
from typing import Final

AHEAD: Final = 0.05
"""Seconds of work to fetch ahead, so that a freed slot finds a task while the next fetch is in progress. It
also bounds how long a prefetched task waits although another worker has free slots."""
MAX_AHEAD: Final = 1000
_HALF_LIFE: Final = 0.1
"""Seconds of busy time after which earlier measurements count half."""


class Prefetch:
    """The prefetch of one worker. ahead: tasks to fetch beyond the free slots. ended: attempts that ended in
    the current busy period."""

    def __init__(self) -> None:
        self.ahead: int = 0
        self.ended: int = 0
        self._since = 0.0
        self._busy = (0.0, 0.0)

    def begin(self) -> None:
        """Start a busy period."""
        self._since, self.ended = time.monotonic(), 0

    def measure(self) -> None:
        """End a busy period, and compute from it how many tasks are completed in `AHEAD` seconds."""
        if not self.ended:
            return
        now = time.monotonic()
        count, seconds = self._busy[0] + self.ended, self._busy[1] + now - self._since
        self.ahead = min(MAX_AHEAD, int(count / seconds * AHEAD))
        self._busy = (count / 2, seconds / 2) if seconds > _HALF_LIFE else (count, seconds)
        self.ended, self._since = 0, now
