"""Measures how long tasks waited and ran, and sends the sums with each heartbeat: an observer.

Owns what is measured and how often: at high rates only a weighted sample, so that the cost stays negligible.
Written by the event loop, drained by the lease thread.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from streamq.calls import rollup as rollup_calls
from streamq.calls.call import Call
from streamq.histogram import bucket
from streamq.keys import type_keys
from streamq.model.delivery import Delivery
from streamq.model.outcome import Outcome

ENOUGH: Final = 512
"""The most tasks measured between two heartbeats; of more tasks, a weighted sample is kept."""


class _Measured(NamedTuple):
    type: str
    entry_ms: int
    started: float
    ended: float


class LatencySampler:
    """The measurements of one worker process since it last sent them. interval: seconds between two sends."""

    def __init__(self, app: str, interval: float) -> None:
        self._app = app
        self._interval_ms = interval * 1000
        self._sent_ms = 0
        self._measured: list[_Measured] = []
        self._weight = 1
        self._left = 1

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        """Measure a sample of the attempts. An attempt that was never started is not measured."""
        self._left -= 1
        if self._left > 0:
            return
        self._left = self._weight
        if seconds is None or outcome is None:
            return
        entry_ms = int(task.place[1:].partition("-")[0])
        measured, now = self._measured, time.monotonic()
        measured.append(_Measured(task.type, entry_ms, now - seconds, now))
        if len(measured) >= ENOUGH:
            # Drop every second measurement, and double the weight of the others.
            self._measured = measured[::2]
            self._weight *= 2

    def drain(self, now_ms: int) -> list[Call[int]]:
        """Return the calls that send the measurements, one per task type, and forget them. `now_ms`: by the
        server's clock."""
        if abs(now_ms - self._sent_ms) < self._interval_ms:
            return []
        self._sent_ms = now_ms
        measured, self._measured = self._measured, []
        weight = self._weight
        if len(measured) < ENOUGH // 4 and weight > 1:
            self._weight = weight // 2
        offset = now_ms / 1000 - time.monotonic()
        counts: dict[str, dict[str, int]] = {}
        for one in measured:
            row = counts.setdefault(one.type, {})
            waited = max(0.0, one.started + offset - one.entry_ms / 1000)
            for name in (f"wait:{bucket(waited)}", f"run:{bucket(one.ended - one.started)}"):
                row[name] = row.get(name, 0) + weight
        return [
            rollup_calls.tally(type_keys(self._app, 0, name), now_ms, row) for name, row in counts.items()
        ]
