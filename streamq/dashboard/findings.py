"""The doctor's findings for the server page, cached.

Owns the cache. The doctor runs a few hundred commands with the rights of the dashboard's own user, in the
thread of the request that needs them: never in the event loop.
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
"""Seconds for which findings are cached."""
_ORDER: Final = {"fault": 0, "warning": 1, "unknown": 2, "ok": 3}


@dataclass(frozen=True, slots=True)
class Findings:
    """The diagnosis, and its age in seconds."""

    diagnosis: Diagnosis
    age: float

    @property
    def worst_first(self) -> list[Check]:
        return sorted(self.diagnosis.checks, key=lambda check: _ORDER[check.status])


class DoctorCache:
    """Runs the doctor if its findings are old; concurrent requests wait for the same run."""

    def __init__(self, examine: Callable[[], Diagnosis], kept: float = KEPT) -> None:
        self._examine = examine
        self._kept = kept
        self._lock = threading.Lock()
        self._cached: tuple[Diagnosis, float] | None = None

    def findings(self) -> Findings:
        """Return the findings. Raise RedisErrors if the server cannot be examined."""
        with self._lock:
            if self._cached is None or time.monotonic() - self._cached[1] > self._kept:
                self._cached = self._examine(), time.monotonic()
            diagnosis, at = self._cached
            return Findings(diagnosis, time.monotonic() - at)
