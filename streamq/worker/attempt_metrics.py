"""Adds up what attempts took, where somebody asks for metrics: an observer.

It is on the way of every task, so it counts each outcome and measures no more than it must: of a type whose
tasks come fast, one in so many stands for the rest. Adds to plain numbers, and keeps nothing of a task.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from streamq.model.delivery import Delivery
from streamq.model.outcome import OUTCOMES, Outcome
from streamq.model.task import PRIORITIES, STREAM_LETTERS, SUSPECT
from streamq.telemetry.counters import Counters

ENOUGH: Final = 200
"""Tasks of a type measured between two beats of the loop; of more, one in so many."""
_RETURNED: Final = "r"
_PRIORITY: Final = dict(zip((*STREAM_LETTERS, _RETURNED), (*PRIORITIES, "suspect", "returned"), strict=True))
"""The label of a wait. What was handed back waits in the stream of the suspects, but is none."""


class _Series:
    """What is kept of one task type. `left`: tasks until the next that is measured, `weight`: how many it
    stands for, `measured`: how many were since the last beat."""

    __slots__ = ("duration", "lateness", "left", "measured", "outcomes", "wait", "weight")

    def __init__(self, counters: Counters, app: str, task_type: str) -> None:
        self.outcomes = {
            kind: counters.counter("streamq_task_attempts_total", app, task_type, name)
            for kind, name in OUTCOMES.items()
        }
        counters.counter("streamq_leases_lost_total", app, task_type)
        self.duration = counters.histogram("streamq_task_duration_seconds", app, task_type)
        self.lateness = counters.histogram("streamq_task_lateness_seconds", app, task_type)
        self.wait = {
            letter: counters.histogram("streamq_task_wait_seconds", app, task_type, name)
            for letter, name in _PRIORITY.items()
        }
        self.left = self.weight = 1
        self.measured = 0

    def measure(self, delivery: Delivery, seconds: float, started_at: float) -> None:
        """`started_at`: by the server's clock, in seconds since the epoch."""
        weight = self.left = self.weight
        self.measured += 1
        self.duration.observe(seconds, weight)
        # The place names the moment at which the task became ready, the id of a delayed task its due time.
        letter = delivery.place[0]
        line = _RETURNED if letter == SUSPECT and not delivery.suspect else letter
        self.wait[line].observe(_since(delivery.place, started_at), weight)
        if delivery.local[0] == "d" and delivery.attempt == 1:
            self.lateness.observe(_since(delivery.local, started_at), weight)

    def adapt(self) -> None:
        """At a beat: how many tasks one is to stand for until the next."""
        self.weight = max(1, self.measured * self.weight // ENOUGH)
        self.left = min(self.left, self.weight)
        self.measured = 0


def _since(name: str, now: float) -> float:
    """Seconds since the moment that a place or a local id names; two clocks may differ a little."""
    return max(0.0, now - int(name[1:].partition("-")[0]) / 1000)


class AttemptMetrics:
    """Adds up outcomes. Lives in the worker's event loop.

    `server_ms`: a time of the monotonic clock and a shard -> the clock of its server.
    """

    def __init__(
        self,
        counters: Counters,
        app: str,
        types: list[str],
        server_ms: Callable[[float, int], int],
    ) -> None:
        self._series = {name: _Series(counters, app, name) for name in types}
        self._server_ms = server_ms

    def attempt_ended(self, task: Delivery, outcome: Outcome | None, seconds: float | None) -> None:
        """Count how an attempt ended."""
        if outcome is None:
            return
        series = self._series[task[0]]
        series.outcomes[outcome.__class__].value += 1
        series.left -= 1
        if series.left <= 0 and seconds is not None:
            started_at = self._server_ms(time.monotonic() - seconds, task.shard) / 1000
            series.measure(task, seconds, started_at)

    def adapt(self) -> None:
        """At each beat of the loop."""
        for series in self._series.values():
            series.adapt()
