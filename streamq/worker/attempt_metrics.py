"""Metrics of attempts: an observer that counts outcomes and measures durations, if metrics are on.

Runs for every task, so it must stay cheap: it counts each outcome but measures only a sample of a type whose
tasks are frequent, weighted for the rest. Must not keep anything of a task.
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
"""Tasks of a type measured between two calls of `adapt`; of more tasks, a sample is measured."""
_RETURNED: Final = "r"
_PRIORITY: Final = dict(zip((*STREAM_LETTERS, _RETURNED), (*PRIORITIES, "suspect", "returned"), strict=True))
"""The label of a wait. Tasks that were handed back wait in the suspects' stream but are not suspects."""


class _Series:
    """The metrics of one task type. `left`: tasks until the next one is measured; `weight`: how many tasks it
    represents; `measured`: tasks measured since the last `adapt`."""

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
        """Record one attempt. `started_at`: by the server's clock, in seconds since the epoch."""
        weight = self.left = self.weight
        self.measured += 1
        self.duration.observe(seconds, weight)
        # The place holds the time at which the task became ready, the id of a delayed task its due time.
        letter = delivery.place[0]
        priority = _RETURNED if letter == SUSPECT and not delivery.suspect else letter
        self.wait[priority].observe(_since(delivery.place, started_at), weight)
        if delivery.local[0] == "d" and delivery.attempt == 1:
            self.lateness.observe(_since(delivery.local, started_at), weight)

    def adapt(self) -> None:
        """Choose how many tasks each measured one represents until the next call."""
        self.weight = max(1, self.measured * self.weight // ENOUGH)
        self.left = min(self.left, self.weight)
        self.measured = 0


def _since(name: str, now: float) -> float:
    """Return the seconds since the time in a place or local id; never negative, as two clocks may differ."""
    return max(0.0, now - int(name[1:].partition("-")[0]) / 1000)


class AttemptMetrics:
    """The metrics of one worker's attempts. Runs in the worker's event loop.

    `server_ms`: converts a monotonic time to the clock of a shard's server.
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
        """Adapt the sampling of every type; called periodically."""
        for series in self._series.values():
            series.adapt()
