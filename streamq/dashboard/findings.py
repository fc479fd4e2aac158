"""What the doctor finds, for the server's page: looked for by whoever asks first, and kept for a while.

Owns that memory. The doctor asks a few hundred questions, with the rights of the dashboard's own user, in
the thread of who asks: never in the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from streamq.doctor.check import Check
from streamq.doctor.examination import Diagnosis

KEPT: Final = 60.0
"""Seconds for which findings are shown again."""
_ORDER: Final = {"fault": 0, "warning": 1, "unknown": 2, "ok": 3}


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found so many seconds ago."""

    diagnosis: Diagnosis
    age: float

    @property
    def worst_first(self) -> list[Check]:
        return sorted(self.diagnosis.checks, key=lambda check: _ORDER[check.status])


class Checkup:
    """Has the doctor examine when what is known is old; those who ask meanwhile wait for that."""

    def __init__(self, examine: Callable[[], Diagnosis], kept: float = KEPT) -> None:
        self._examine = examine
        self._kept = kept
        self._lock = threading.Lock()
        self._known: tuple[Diagnosis, float] | None = None

    def look(self) -> Findings:
        """Raises RedisErrors where there is nobody to examine."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known[1] > self._kept:
                self._known = self._examine(), time.monotonic()
            diagnosis, at = self._known
            return Findings(diagnosis, time.monotonic() - at)
