"""What the processes of a group have reported, as one.

Owns the latest report of each living process and the sums of those that have ended: a process that was
killed takes none of what it reported with it. Read by the thread that answers probes.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final

from streamq.probes import health
from streamq.probes.report import BacklogView, Report
from streamq.telemetry.counters import Counters, Snapshot, build_info

RESTARTS: Final = ("crashed", "wedged", "worn_out")


class _Line:
    """The reports of one process. A thread of its own reads them: one that stops in the middle of a
    report must not hold up the supervisor or the others."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.latest: tuple[Report, float] | None = None
        self.thread = threading.Thread(target=self._read, name="streamq-board", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with suppress(EOFError, OSError, ValueError), self._pipe:
            while True:
                self.latest = Report.unpack(self._pipe.recv_bytes()), time.monotonic()


class GroupStatus:
    """Of one group. `seats`: the names of the processes that are to be there."""

    role = "worker"

    def __init__(self, seats: list[str]) -> None:
        self._seats = seats
        self._lines: dict[str, _Line] = {}
        self._ended = Snapshot()
        self._lock = threading.Lock()
        self.own: Counters = Counters()
        for reason in RESTARTS:
            self.own.counter("streamq_worker_process_restarts_total", reason)
        self.draining = False

    def started(self, seat: str, pipe: Connection) -> None:
        """A process has been started, and reports through this pipe."""
        with self._lock:
            self._lines[seat] = _Line(pipe)

    def ended(self, seat: str) -> None:
        """It has ended: keep its sums. What it wrote last is in the pipe still."""
        line = self._lines.get(seat)
        if line is None:
            return
        line.thread.join(1.0)
        with self._lock:
            del self._lines[seat]
            if line.latest is not None:
                self._ended.add_sums(line.latest[0].counters)

    def _latest(self) -> dict[str, tuple[Report, float] | None]:
        with self._lock:
            return {seat: line.latest for seat, line in self._lines.items()}

    # -- what probes ask -------------------------------------------------------------------------------

    def not_alive(self) -> list[str]:
        now = time.monotonic()
        known = [latest for latest in self._latest().values() if latest is not None]
        return [why for report, at in known for why in health.not_alive(report.facts, now - at)]

    def faults(self) -> list[str]:
        """None: a worker tells of its own in its log."""
        return []

    def not_ready(self) -> list[str]:
        if self.draining:
            return ["the group is draining"]
        now, latest = time.monotonic(), self._latest()
        found: list[str] = []
        for seat in self._seats:
            known = latest.get(seat)
            if known is None:
                found.append(f"{seat} {'has not reported yet' if seat in latest else 'is not running'}")
            else:
                found += health.not_ready(known[0].facts, now - known[1])
        return found

    def total(self) -> Snapshot:
        """The group's sums and gauges, those of ended processes among the sums."""
        latest = self._latest()
        total = Snapshot()
        with self._lock:
            total.add_sums(self._ended)
        total.add(self.own.snapshot())
        for known in latest.values():
            if known is not None:
                total.add(known[0].counters)
        total.set("streamq_worker_processes", value=len(latest))
        total.set("streamq_ready", self.role, value=int(not self.not_ready()))
        build_info(total, self.role)
        return total

    async def backlog(self) -> BacklogView | None:
        """What the daemon sees that runs beside the workers."""
        for known in self._latest().values():
            if known is not None and known[0].facts.role == "daemon":
                rows = known[0].backlog
                return None if rows is None else BacklogView(list(rows), known[0].more_types)
        return None
