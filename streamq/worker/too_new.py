"""Tasks that a newer release wrote and this worker cannot run: their delay, and their counts.

Owns the back-off and the counts. Each type and reason is logged once; heartbeats contain the counts, which
`streamq doctor` reads.
"""

from __future__ import annotations

import random
from typing import Final, TypedDict

from streamq import envelope
from streamq.telemetry import logs

FIRST: Final = 30.0
LONGEST: Final = 300.0
"""Seconds until a task is offered again, doubled each time up to the longest: a roll-out takes minutes."""
MAX_KINDS: Final = 50
"""The most types and reasons to count separately: the reason is an unbounded text in the envelope."""
OTHER: Final = "other"


class TooNewCount(TypedDict):
    """The deliveries of one task type that were handed back for one reason."""

    type: str
    needs: str
    count: int


class TooNewTasks:
    """The too-new tasks of one worker process. Written in the event loop, read in other threads."""

    def __init__(self, worker: str) -> None:
        self._log = logs.get_logger(worker=worker)
        self._counts: dict[tuple[str, str], int] = {}

    def delay_ms(self, task_type: str, error: envelope.TooNew) -> int:
        """Count a delivery, and return in how many ms it should be offered again."""
        delay = min(LONGEST, FIRST * 2.0 ** min(error.times, 16)) * random.uniform(1.0, 1.1)
        self._count(task_type, error.needs, delay)
        return round(delay * 1000)

    def _count(self, task_type: str, needs: str, delay: float) -> None:
        kind = task_type, needs
        if kind not in self._counts:
            if len(self._counts) >= MAX_KINDS:
                kind = OTHER, OTHER
            else:
                self._log.warning(
                    "task.too_new",
                    type=task_type,
                    needs=needs,
                    again_in=round(delay),
                    fix="restart this worker with the newer release of streamq that wrote these tasks. Until "
                    "then they are handed back for a worker that can run them, without counting an attempt.",
                )
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def counts(self) -> list[TooNewCount]:
        """Return the counts by type and reason, in the format of the heartbeat."""
        return [
            {"type": task_type, "needs": needs, "count": count}
            for (task_type, needs), count in list(self._counts.items())
        ]
