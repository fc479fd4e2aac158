"""Sums of one process, and how those of several become one.

Owns plain numbers and lists: nothing here locks, looks up a label for each task or knows Prometheus. Read
from another thread while it is written, a copy may be a task behind; it is never torn.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from streamq.telemetry.catalogue import METRICS
from streamq.version import package_version

Key = tuple[str, ...]
"""A metric's name and the values of its labels, in their order."""

MOST_EXCEPTIONS: Final = 50


class Counter:
    """A counter that can be kept at hand."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int = 0


class Histogram:
    """Numbers of values by bucket (the last: larger than every bound), and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float, weight: int = 1) -> None:
        """Add a value; weight: how many it stands for."""
        self.counts[bisect_left(self.bounds, value)] += weight
        self.sum += value * weight


@dataclass
class Snapshot:
    """Values at one moment. Histograms are (counts by bucket, sum)."""

    counters: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, tuple[list[int], float]] = field(default_factory=dict)

    def set(self, name: str, *labels: str, value: float) -> None:
        """Note a value of a counter or gauge."""
        (self.counters if METRICS[name].kind == "counter" else self.gauges)[name, *labels] = value

    def add(self, other: Snapshot) -> None:
        """Take in the values of another process."""
        self.add_sums(other)
        for key, value in other.gauges.items():
            before = self.gauges.get(key, 0)
            self.gauges[key] = max(before, value) if METRICS[key[0]].merge == "max" else before + value

    def add_sums(self, other: Snapshot) -> None:
        """Take in what stays true when the other process is gone: all but the gauges."""
        for key, value in other.counters.items():
            before = self.counters.get(key, 0)
            self.counters[key] = max(before, value) if METRICS[key[0]].merge == "max" else before + value
        for key, (counts, total) in other.histograms.items():
            mine, so_far = self.histograms.get(key, ([0] * len(counts), 0.0))
            self.histograms[key] = [a + b for a, b in zip(mine, counts, strict=True)], so_far + total

    def plain(self) -> dict[str, object]:
        """As JSON can hold it."""
        return {
            "counters": list(self.counters.items()),
            "gauges": list(self.gauges.items()),
            "histograms": list(self.histograms.items()),
        }

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Snapshot:
        """From what `plain` made. Metrics that this release does not know are left out."""
        counters, gauges, histograms = (
            {tuple(key): value for key, value in plain[part] if key[0] in METRICS}
            for part in ("counters", "gauges", "histograms")
        )
        return cls(counters, gauges, {key: (counts, total) for key, (counts, total) in histograms.items()})


class Counters:
    """The sums of this process. `count` is for what is rare; a hot path keeps the cell at hand."""

    def __init__(self) -> None:
        self._cells: dict[Key, Counter] = {}
        self._histograms: dict[Key, Histogram] = {}
        self._exceptions: set[str] = set()

    def cell(self, name: str, *labels: str) -> Counter:
        """The counter, made where there is none."""
        cell = self._cells.get((name, *labels))
        if cell is None:
            cell = self._cells[name, *labels] = Counter()
        return cell

    def histogram(self, name: str, *labels: str) -> Histogram:
        """The histogram, made where there is none."""
        found = self._histograms.get((name, *labels))
        if found is None:
            found = self._histograms[name, *labels] = Histogram(METRICS[name].bounds)
        return found

    def count(self, name: str, *labels: str, by: int = 1) -> None:
        self.cell(name, *labels).value += by

    def failed(self, app: str, task_type: str, exception: str) -> None:
        """An attempt ended with an exception of this class: a user may raise any number of them."""
        if exception not in self._exceptions and len(self._exceptions) >= MOST_EXCEPTIONS:
            exception = "other"
        else:
            self._exceptions.add(exception)
        self.count("streamq_task_exceptions_total", app, task_type, exception)

    def snapshot(self) -> Snapshot:
        """A copy of the sums. A counter that is known shows its 0: from nothing to 1 is no rise for
        Prometheus."""
        return Snapshot(
            {key: cell.value for key, cell in list(self._cells.items())},
            {},
            {key: (list(h.counts), h.sum) for key, h in list(self._histograms.items()) if any(h.counts)},
        )


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    total = Snapshot()
    for snapshot in snapshots:
        total.add(snapshot)
    return total


def build_info(snapshot: Snapshot, role: str) -> None:
    """Note what runs here."""
    snapshot.set("streamq_build_info", role, package_version(), platform.python_version(), value=1)
