"""What a process reports to its supervisor, and the thread that does so.

Owns the report's form and its way through the pipe. A report is a whole: the sums since the start, not what
came since the last one, so a lost or late one loses nothing.
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


class BacklogView(NamedTuple):
    """What is known of the queue: rows by app and type, and how many types were not looked at."""

    rows: list[dict[str, Any]]
    more_types: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """How a process is, its sums, and where it is a daemon what it sees of the queue (else None), and how
    many task types it does not look at."""

    facts: Facts
    counters: Snapshot
    backlog: Sequence[dict[str, Any]] | None = None
    more_types: int = 0

    def packed(self) -> bytes:
        told = {"facts": self.facts.plain(), "sums": self.counters.to_json(), "backlog": self.backlog}
        return orjson.dumps(told | {"more_types": self.more_types})

    @classmethod
    def unpacked(cls, raw: bytes) -> Report:
        plain = orjson.loads(raw)
        return cls(
            Facts.read(plain["facts"]),
            Snapshot.from_json(plain["sums"]),
            plain["backlog"],
            plain["more_types"],
        )


class Reporter(threading.Thread):
    """Reports once a second, and a last time when stopped. A thread of its own: a supervisor that does
    not read, because it is stopped in a debugger, must hold up neither handlers nor leases."""

    def __init__(self, pipe: Connection, make: Callable[[], Report]) -> None:
        super().__init__(name="streamq-report", daemon=True)
        self._pipe = pipe
        self._make = make
        self._stopped = threading.Event()

    def run(self) -> None:
        with suppress(OSError):  # the supervisor is gone; the process will notice by itself
            self._pipe.send_bytes(self._make().packed())
            while not self._stopped.wait(INTERVAL):
                self._pipe.send_bytes(self._make().packed())
            self._pipe.send_bytes(self._make().packed())

    def stop(self) -> None:
        """Send the last report, if it is taken within a second."""
        self._stopped.set()
        self.join(1.0)
