"""How long tasks waited and ran, added up in the worker and sent with the heartbeat.

Owns what is measured of each task and how much of it: where tasks come fast, one in so many stands for
the rest, so that measuring costs next to nothing. Written by the event loop, emptied by the lease thread.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from streamq import calls
from streamq.keys import type_keys
from streamq.rollups import bucket
from streamq.worker.holdings import Held

ENOUGH: Final = 1000
"""Tasks measured between two heartbeats; of more, one in so many."""


class _Measured(NamedTuple):
    type: str
    entry_ms: int
    started: float
    ended: float
    weight: int


class Tally:
    """What one worker process measured since the last heartbeat."""

    def __init__(self, app: str) -> None:
        self._app = app
        self._measured: list[_Measured] = []
        self._left_out = 0
        self._weight = 1

    def add(self, held: Held) -> None:
        """Note a delivery that has ended; one that was never started does not count."""
        self._left_out += 1
        if self._left_out < self._weight or held.started is None:
            return
        self._left_out = 0
        delivery = held.delivery
        entry_ms = int(delivery.place[1:].partition("-")[0])
        measured = _Measured(delivery.type, entry_ms, held.started, time.monotonic(), self._weight)
        self._measured.append(measured)

    def calls(self, now_ms: int) -> list[calls.Call[int]]:
        """What to send, one call a task type, and begin anew. `now_ms` is the server's clock."""
        measured, self._measured = self._measured, []
        self._weight = max(1, self._weight * len(measured) // ENOUGH)
        offset = now_ms / 1000 - time.monotonic()
        counts: dict[str, dict[str, int]] = {}
        for one in measured:
            row = counts.setdefault(one.type, {})
            waited = max(0.0, one.started + offset - one.entry_ms / 1000)
            for name in (f"wait:{bucket(waited)}", f"run:{bucket(one.ended - one.started)}"):
                row[name] = row.get(name, 0) + one.weight
        return [calls.tally(type_keys(self._app, 0, name), now_ms, row) for name, row in counts.items()]
