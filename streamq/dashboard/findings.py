"""The doctor's findings for the server page, cached.

Owns the cache. The doctor runs a few hundred commands with the rights of the dashboard's own user, in the
thread of the request that needs them: never in the event loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from streamq.doctor.check import Check
from streamq.doctor.examination import Diagnosis
from streamq.errors import StreamQError

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
        self._renewing = False

    def latest(self) -> Diagnosis | None:
        """Return the latest diagnosis at once, however old; None if there is none yet. If it is old the
        doctor runs in a thread of its own: a page that shows little of it need not wait seconds."""
        cached = self._cached
        old = cached is None or time.monotonic() - cached[1] > self._kept
        if old and not self._renewing:
            self._renewing = True
            threading.Thread(target=self._renew, name="streamq-doctor", daemon=True).start()
        return cached[0] if cached else None

    def _renew(self) -> None:
        with suppress(StreamQError):  # a page that needs the findings shows the error
            self.findings()

    def findings(self) -> Findings:
        """Return the findings. Raise RedisErrors if the server cannot be examined."""
        with self._lock:
            self._renewing = False
            if self._cached is None or time.monotonic() - self._cached[1] > self._kept:
                self._cached = self._examine(), time.monotonic()
            diagnosis, at = self._cached
            return Findings(diagnosis, time.monotonic() - at)
