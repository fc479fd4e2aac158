"""Histograms of durations: workers count into buckets, percentiles are read from them.

Owns the width of the buckets. The scale is logarithmic: each power of two of microseconds has four buckets,
so a percentile is exact within a tenth. Does no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PER_OCTAVE: Final = 4


Histogram = Mapping[int, int]


def bucket(seconds: float) -> int:
    """Return the number of a duration's bucket."""
    return max(0, int(math.log2(seconds * 1e6 + 1) * _PER_OCTAVE))


def percentile(histogram: Histogram, share: float) -> float | None:
    """Return the duration in seconds that this share of all does not exceed; None if there are none."""
    left = sum(histogram.values()) * share
    for number, several in sorted(histogram.items()):
        left -= several
        if left <= 0:
            return (2 ** ((number + 0.5) / _PER_OCTAVE) - 1) / 1e6
    return None


def mean(histogram: Histogram) -> float:
    """Return the average duration in seconds, within a tenth; 0 if there are none."""
    number = sum(histogram.values())
    total = sum(several * (2 ** ((one + 0.5) / _PER_OCTAVE) - 1) / 1e6 for one, several in histogram.items())
    return total / number if number else 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in seconds; None if nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> Latency:
        """Return the percentiles of a histogram."""
        return cls(*(percentile(histogram, share) for share in (0.5, 0.95, 0.99)))
