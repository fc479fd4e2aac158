"""Tasks that this worker is too old for: when each is handed back, and what is told of them.

Owns the back-off and the counts. Once per type and reason is logged; the heartbeat tells the counts, and
`streamq doctor` reads them there.
"""

from __future__ import annotations

import random
from typing import Any, Final

from streamq import envelope
from streamq.telemetry import logs

FIRST: Final = 30.0
LONGEST: Final = 300.0
"""Seconds until a task is offered anew, doubled each time up to the longest: a roll-out takes minutes."""
MOST_KINDS: Final = 50
"""Types and reasons that are told apart: whoever writes an envelope names the reason."""
OTHER: Final = "other"


class TooNewTasks:
    """Of one worker process. Written in the event loop, read in other threads."""

    def __init__(self, worker: str) -> None:
        self._log = logs.get_logger(worker=worker)
        self._counts: dict[tuple[str, str], int] = {}

    def delay_ms(self, task_type: str, error: envelope.TooNew) -> int:
        """Note one delivery, and return in how many ms it is to be offered anew."""
        delay = min(LONGEST, FIRST * 2.0 ** min(error.times, 16)) * random.uniform(1.0, 1.1)
        self._note(task_type, error.needs, delay)
        return round(delay * 1000)

    def _note(self, task_type: str, needs: str, delay: float) -> None:
        kind = task_type, needs
        if kind not in self._counts:
            if len(self._counts) >= MOST_KINDS:
                kind = OTHER, OTHER
            else:
                self._log.warning(
                    "task.too_new",
                    type=task_type,
                    needs=needs,
                    again_in=round(delay),
                    fix="a newer release of streamq wrote such tasks: they are handed back without charging "
                    "an attempt, for a worker that can run them. Restart this worker with that release",
                )
        self._counts[kind] = self._counts.get(kind, 0) + 1

    def told(self) -> list[dict[str, Any]]:
        """The counts by type and reason, as the heartbeat has them."""
        return [
            {"type": task_type, "needs": needs, "count": count}
            for (task_type, needs), count in list(self._counts.items())
        ]
