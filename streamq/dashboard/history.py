"""Cache the history of the last hour and day: a slice of time that is over no longer changes.

Owns the cache between pages. Only what a chart shows of a finished slice is kept, so the cache is small and
bounded: 60 minutes and 96 quarters of an hour for each task type. Reads through the inspector only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.control.inspector import Inspector
from streamq.control.rollups import Rollup, Span, activity, added

RECENT: Final = 5
"""Minutes over which rates and percentiles are computed."""
SETTLED_MS: Final = 60_000
"""Ms after its end until a slice counts as finished: counts are written within seconds."""
ALL: Final = ""
"""The cache's name for all types together."""


class Point(NamedTuple):
    """A slice of time in a chart: rates in tasks a second, None if no daemon counted;
    durations in seconds."""

    start_ms: int
    seconds: int
    done: int
    accepted: float | None
    completed: float | None
    failed: float | None
    backlog: int | None
    wait_p95: float | None
    run_p95: float | None


class History:
    """The cache of one app. Safe to share between threads: concurrent readers compute the same."""

    def __init__(self) -> None:
        self._finished: dict[tuple[Span, str], dict[int, Point]] = {}

    def reader(self, inspector: Inspector) -> HistoryReader:
        """Return a reader of the present state."""
        return HistoryReader(inspector.within(inspector.each()), self._finished)


class HistoryReader:
    """Reads the history at one moment."""

    def __init__(self, inspector: Inspector, finished: dict[tuple[Span, str], dict[int, Point]]) -> None:
        self._inspector, self._now_ms = inspector, inspector.now_ms()
        self._finished = finished

    def hour(self, task_type: str) -> tuple[list[Rollup], list[Point]]:
        """Return the last minutes of a type in full, and its last hour, oldest first."""
        cached = self._cached("hour", task_type)
        read = self._read(task_type, "hour", min(_after(cached), self._now_ms - RECENT * 60_000))
        return read[-RECENT:], self._points("hour", task_type, cached, list(map(point, read)))

    def points(self, types: Sequence[str], span: Span, name: str) -> list[Point]:
        """Return the hour or day of these types together, oldest first; cached as `name`."""
        cached = self._cached(span, name)
        read = [self._read(one, span, _after(cached)) for one in types]
        return self._points(span, name, cached, [point(together(parts)) for parts in zip(*read, strict=True)])

    def _read(self, task_type: str, span: Span, since_ms: int) -> list[Rollup]:
        return self._inspector.rollups(task_type, span, since_ms=since_ms, now_ms=self._now_ms)

    def _cached(self, span: Span, name: str) -> dict[int, Point]:
        """Return what is cached, without gaps: an entry is only replaced as a whole."""
        return self._finished.get((span, name), {})

    def _points(self, span: Span, name: str, cached: dict[int, Point], fresh: list[Point]) -> list[Point]:
        """Return what was cached and what was read, and cache the slices that are finished now."""
        oldest = self._now_ms - (3_600_000 if span == "hour" else 86_400_000)
        kept = {start: one for start, one in cached.items() if start > oldest}
        finished = [one for one in fresh if one.start_ms + one.seconds * 1000 + SETTLED_MS < self._now_ms]
        self._finished[span, name] = kept | {one.start_ms: one for one in finished}
        return [*kept.values(), *(one for one in fresh if one.start_ms not in kept)]


def _after(cached: dict[int, Point]) -> int:
    """Return the first moment that is not cached."""
    return max(cached, default=-1) + 1


def together(parts: Sequence[Rollup]) -> Rollup:
    """Return the sum of one slice over several types."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return Rollup(
        first.start_ms,
        first.seconds,
        added(part.counts for part in parts),
        added(part.wait for part in parts),
        added(part.run for part in parts),
    )


def point(part: Rollup) -> Point:
    """Return a slice as a point in a chart."""
    found, counts = activity([part]), part.counts
    failed = counts.get("retried", 0) + counts.get("dead", 0)
    return Point(
        start_ms=part.start_ms,
        seconds=part.seconds,
        done=counts.get("completed", 0),
        accepted=_rate(part, counts.get("accepted", 0)),
        completed=_rate(part, counts.get("completed", 0)),
        failed=_rate(part, failed),
        backlog=counts.get("backlog"),
        wait_p95=_rounded(found.wait.p95),
        run_p95=_rounded(found.run.p95),
    )


def _rate(part: Rollup, number: int) -> float | None:
    return round(number / part.seconds, 3) if part.sampled else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
