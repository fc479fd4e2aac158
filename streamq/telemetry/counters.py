"""In-process counters and histograms, and how several processes' are merged.

Owns plain numbers and lists. Must not lock, look up a label per task or depend on Prometheus. A snapshot
that another thread takes during a write may miss the latest task; it is never torn.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any, Final

from streamq.telemetry.catalogue import METRICS
from streamq.version import package_version

Key = tuple[str, ...]
"""A metric's name, then its label values in the declared order."""

MAX_EXCEPTION_CLASSES: Final = 50


class Counter:
    """One counter. Hot paths keep a reference to it instead of looking it up."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int = 0


class Histogram:
    """The number of values per bucket (the last one: above every bound), and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Add a value. `weight`: the number of values that it represents."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight


@dataclass
class Snapshot:
    """All values at one moment. Histograms are (counts per bucket, sum)."""

    counters: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, tuple[list[int], float]] = field(default_factory=dict)

    def set(self, name: str, *labels: str, value: float) -> None:
        """Set the value of a counter or gauge."""
        (self.counters if METRICS[name].kind == "counter" else self.gauges)[name, *labels] = value

    def add(self, other: Snapshot) -> None:
        """Merge the values of another process."""
        self.add_sums(other)
        for key, value in other.gauges.items():
            before = self.gauges.get(key, 0)
            self.gauges[key] = max(before, value) if METRICS[key[0]].merge == "max" else before + value

    def add_sums(self, other: Snapshot) -> None:
        """Merge what remains true after the other process has ended: everything but the gauges."""
        for key, value in other.counters.items():
            before = self.counters.get(key, 0)
            self.counters[key] = max(before, value) if METRICS[key[0]].merge == "max" else before + value
        for key, (counts, total) in other.histograms.items():
            mine, so_far = self.histograms.get(key, ([0] * len(counts), 0.0))
            self.histograms[key] = [a + b for a, b in zip(mine, counts, strict=True)], so_far + total

    def to_json(self) -> dict[str, object]:
        """Return the values as JSON types."""
        return {
            "counters": list(self.counters.items()),
            "gauges": list(self.gauges.items()),
            "histograms": list(self.histograms.items()),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Snapshot:
        """Return the snapshot that `to_json` wrote. Metrics unknown to this release are dropped."""
        counters, gauges, histograms = (
            {tuple(key): value for key, value in stored[part] if key[0] in METRICS}
            for part in ("counters", "gauges", "histograms")
        )
        return cls(counters, gauges, {key: (counts, total) for key, (counts, total) in histograms.items()})


class Counters:
    """The counters and histograms of this process. `count` is for rare events; hot paths keep the Counter."""

    def __init__(self) -> None:
        self._counters: dict[Key, Counter] = {}
        self._histograms: dict[Key, Histogram] = {}
        self._exceptions: set[str] = set()

    def counter(self, name: str, *labels: str) -> Counter:
        """Return the counter; create it if it does not exist."""
        counter = self._counters.get((name, *labels))
        if counter is None:
            counter = self._counters[name, *labels] = Counter()
        return counter

    def histogram(self, name: str, *labels: str) -> Histogram:
        """Return the histogram; create it if it does not exist."""
        found = self._histograms.get((name, *labels))
        if found is None:
            found = self._histograms[name, *labels] = Histogram(METRICS[name].bounds)
        return found

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        """Increment a counter."""
        self.counter(name, *labels).value += by

    def count_exception(self, app: str, task_type: str, exception: str) -> None:
        """Count a failed attempt by exception class. Handlers may raise any number of classes, so the number
        of labels is bounded."""
        if exception not in self._exceptions and len(self._exceptions) >= MAX_EXCEPTION_CLASSES:
            exception = "other"
        else:
            self._exceptions.add(exception)
        self.count("streamq_task_exceptions_total", app, task_type, exception)

    def snapshot(self) -> Snapshot:
        """Return a copy of the values. A counter that exists is included at 0: Prometheus sees no increase
        when a series first appears at 1."""
        return Snapshot(
            {key: counter.value for key, counter in list(self._counters.items())},
            {},
            {key: (list(h.counts), h.sum) for key, h in list(self._histograms.items()) if any(h.counts)},
        )


def build_info(snapshot: Snapshot, role: str) -> None:
    """Set the metric that holds the versions of this process."""
    snapshot.set("streamq_build_info", role, package_version(), platform.python_version(), value=1)
