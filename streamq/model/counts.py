"""How many tasks of a type there are, by state and in all: the counters and the books (invariant I5).

Owns the counters' names. Parses nothing: `calls` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Counts:
    """One task type at one instant: states, counters, and the age of the oldest ready task."""

    now_ms: int
    ready: int
    running: int
    scheduled: int
    dead: int
    suspect: int
    oldest_ready_ms: int | None
    next_due_ms: int | None
    counters: dict[str, int] = field(default_factory=dict)
    parked: int = 0

    @property
    def imbalance(self) -> int:
        """Return accepted tasks minus those accounted for: 0 if the books balance (invariant I5)."""
        c = self.counters
        accepted = c.get("accepted", 0) + c.get("adopted", 0)
        ended = sum(c.get(name, 0) for name in ENDED)
        return accepted - (self.ready + self.running + self.scheduled + self.parked + self.dead + ended)


ENDED: Final = ("completed", "cancelled", "expired", "purged", "vanished")
"""The counters of tasks that no longer exist, as the books count them."""

COUNTERS: Final[Mapping[str, str]] = {
    "accepted": "Tasks that enqueue accepted.",
    "started": "Attempts that ended or whose worker died.",
    "completed": "Tasks that completed.",
    "retried": "Attempts that failed and were followed by another.",
    "dead": "Tasks that became dead letters.",
    "reclaimed": "Deliveries taken back from workers that stopped renewing their leases.",
    "cancelled": "Tasks that were cancelled.",
    "expired": "Tasks that expired before they ran.",
    "handed_back": "Deliveries that workers handed back without running them to an end.",
    "continued": "Attempts that ended with a new run of their task.",
    "requeued": "Dead letters put back.",
    "purged": "Dead letters deleted.",
    "adopted": "Stream entries that another program wrote, and that became dead letters.",
    "repaired": "Tasks that the daemon or `streamq audit --repair` repaired.",
    "vanished": "Tasks that another program deleted, counted when they are written off.",
    "joined": "Calls that got the holder of their unique key, or were refused because of it.",
    "replaced": "Calls that changed a waiting task of their unique key or throttle instead of adding one.",
    "superseded": "Running tasks that were asked to stop for a newer one of their unique key.",
}
"""The counters of each task type, with what each counts. The script that makes a change increments it.
Metrics, lists and the guard of the scripts take the names from here."""
