"""The merged status of a group: the reports of all its processes as one.

Owns the latest report of each running process and the counters of those that have ended: what a killed
process has reported is kept. Read by the thread that serves probes, so it must not block.
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


class _ReportReader:
    """Reads the reports of one process in its own thread: a process that stops in the middle of a report
    must not block the supervisor or the other readers."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.latest: tuple[Report, float] | None = None
        self.thread = threading.Thread(target=self._read, name="streamq-reports", daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with suppress(EOFError, OSError, ValueError), self._pipe:
            while True:
                self.latest = Report.unpack(self._pipe.recv_bytes()), time.monotonic()


class GroupStatus:
    """The status of one group. `names`: of all processes that should be running."""

    role = "worker"

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._readers: dict[str, _ReportReader] = {}
        self._ended = Snapshot()
        self._lock = threading.Lock()
        self.own: Counters = Counters()
        for reason in RESTARTS:
            self.own.counter("streamq_worker_process_restarts_total", reason)  # starts the series at 0
        self.draining = False

    def expect(self, name: str, instead_of: str) -> None:
        """Expect another process to be running instead of one that drains."""
        with self._lock:
            self._names = [name if one == instead_of else one for one in self._names]

    def started(self, name: str, pipe: Connection) -> None:
        """Read the reports of a process that was started."""
        with self._lock:
            self._readers[name] = _ReportReader(pipe)

    def ended(self, name: str) -> None:
        """Keep the counters of a process that has ended, from its last report, which may still be unread."""
        reader = self._readers.get(name)
        if reader is None:
            return
        reader.thread.join(1.0)
        with self._lock:
            del self._readers[name]
            if reader.latest is not None:
                self._ended.add_sums(reader.latest[0].counters)

    def _latest(self) -> dict[str, tuple[Report, float] | None]:
        with self._lock:
            return {name: reader.latest for name, reader in self._readers.items()}

    # -- for probes ------------------------------------------------------------------------------------

    def not_alive(self) -> list[str]:
        """Return the reasons to restart the group."""
        now = time.monotonic()
        known = [latest for latest in self._latest().values() if latest is not None]
        return [problem for report, at in known for problem in health.not_alive(report.facts, now - at)]

    def faults(self) -> list[str]:
        """Return an empty list: workers log their faults instead."""
        return []

    def not_ready(self) -> list[str]:
        """Return the reasons why new tasks would not be worked on."""
        if self.draining:
            return ["the group is draining"]
        now, latest = time.monotonic(), self._latest()
        found: list[str] = []
        for name in self._names:
            known = latest.get(name)
            if known is None:
                found.append(f"{name} {'has not reported yet' if name in latest else 'is not running'}")
            else:
                found += health.not_ready(known[0].facts, now - known[1])
        return found

    def total(self) -> Snapshot:
        """Return the group's counters and gauges; the counters include those of ended processes."""
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
        """Return the queue as the daemon beside the workers sees it; None if it has not reported it."""
        for known in self._latest().values():
            if known is not None and known[0].facts.role == "daemon":
                rows = known[0].backlog
                return None if rows is None else BacklogView(list(rows), known[0].more_types)
        return None
