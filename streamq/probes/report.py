"""The report of a process to its supervisor, and the thread that sends it.

Owns the report's format and its transfer through the pipe. A report holds the totals since the process
started, not the changes since the last report, so a lost or late report loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

import orjson

from streamq.probes.health import Facts
from streamq.telemetry.counters import Snapshot

INTERVAL: Final = 1.0

BacklogRow = dict[str, Any]
"""One task type of one app, by column: `control.overview` builds it, JSON carries it."""


class BacklogView(NamedTuple):
    """The queue as a daemon sees it: a row per app and type, and how many types were not counted."""

    rows: list[BacklogRow]
    more_types: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """The health and counters of a process; from a daemon also its view of the queue.

    backlog: None for a worker, or if the queue could not be read. more_types: task types not counted.
    """

    facts: Facts
    counters: Snapshot
    backlog: Sequence[BacklogRow] | None = None
    more_types: int = 0

    def pack(self) -> bytes:
        """Return the report as bytes for the pipe."""
        return orjson.dumps(
            {
                "facts": self.facts.to_json(),
                "counters": self.counters.to_json(),
                "backlog": self.backlog,
                "more_types": self.more_types,
            }
        )

    @classmethod
    def unpack(cls, raw: bytes) -> Report:
        """Return the report that `pack` wrote."""
        found = orjson.loads(raw)
        return cls(
            Facts(**found["facts"]),
            Snapshot.from_json(found["counters"]),
            found["backlog"],
            found["more_types"],
        )


class Reporter(threading.Thread):
    """Sends a report once a second, and a last one when stopped. It is a thread so that a supervisor that
    does not read, such as one stopped in a debugger, delays neither handlers nor leases."""

    def __init__(self, pipe: Connection, make: Callable[[], Report]) -> None:
        super().__init__(name="streamq-report", daemon=True)
        self._pipe = pipe
        self._make = make
        self._stopped = threading.Event()

    def run(self) -> None:
        """Send reports until stopped."""
        with suppress(OSError):  # the supervisor has ended; the process notices that by itself
            self._pipe.send_bytes(self._make().pack())
            while not self._stopped.wait(INTERVAL):
                self._pipe.send_bytes(self._make().pack())
            self._pipe.send_bytes(self._make().pack())

    def stop(self) -> None:
        """Send the last report and wait up to a second for it."""
        self._stopped.set()
        self.join(1.0)
