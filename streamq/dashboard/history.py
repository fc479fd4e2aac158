"""What happened in the last hour and day, remembered: a slice of time that is over changes no more.

Owns the memory between pages. Of a slice that is over only what a chart shows is kept, so it is small and
bounded: 60 minutes and 96 quarters of an hour a task type. Reads through the inspector only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from streamq.control.inspector import Inspector
from streamq.control.rollups import Rollup, Span, activity, added

RECENT: Final = 5
"""Minutes that rates and percentiles are taken of."""
SETTLED_MS: Final = 60_000
"""Ms after its end from which on a slice counts as over: what is counted is noted within seconds."""
ALL: Final = ""
"""The name under which all types together are remembered."""


class Point(NamedTuple):
    """A slice of time as a chart shows it: rates in tasks a second, durations in seconds."""

    start_ms: int
    seconds: int
    done: int
    accepted: float
    completed: float
    failed: float
    backlog: int | None
    wait_p95: float | None
    run_p95: float | None


class History:
    """Of one app, over one look after the other. Safe to share between threads: what two find out at once
    is the same."""

    def __init__(self) -> None:
        self._over: dict[tuple[Span, str], dict[int, Point]] = {}

    def look(self, inspector: Inspector) -> Look:
        """What there is to see now."""
        return Look(inspector.within(inspector.each()), self._over)


class Look:
    """At one moment."""

    def __init__(self, inspector: Inspector, over: dict[tuple[Span, str], dict[int, Point]]) -> None:
        self._inspector, self._now_ms = inspector, inspector.now_ms()
        self._over = over

    def hour(self, task_type: str) -> tuple[list[Rollup], list[Point]]:
        """The last minutes of a type in full, and its last hour, oldest first."""
        known = self._known("hour", task_type)
        read = self._read(task_type, "hour", min(_after(known), self._now_ms - RECENT * 60_000))
        return read[-RECENT:], self._points("hour", task_type, known, list(map(point, read)))

    def points(self, types: Sequence[str], span: Span, name: str) -> list[Point]:
        """The hour or day of these types together, oldest first; remembered by `name`."""
        known = self._known(span, name)
        read = [self._read(one, span, _after(known)) for one in types]
        return self._points(span, name, known, [point(together(parts)) for parts in zip(*read, strict=True)])

    def _read(self, task_type: str, span: Span, since_ms: int) -> list[Rollup]:
        return self._inspector.rollups(task_type, span, since_ms=since_ms, now_ms=self._now_ms)

    def _known(self, span: Span, name: str) -> dict[int, Point]:
        """What is remembered, without gaps: it is replaced as a whole, so it stays so whoever else looks."""
        return self._over.get((span, name), {})

    def _points(self, span: Span, name: str, known: dict[int, Point], fresh: list[Point]) -> list[Point]:
        """What was known with what was read; remembers what is over by now."""
        oldest = self._now_ms - (3_600_000 if span == "hour" else 86_400_000)
        kept = {start: one for start, one in known.items() if start > oldest}
        over = [one for one in fresh if one.start_ms + one.seconds * 1000 + SETTLED_MS < self._now_ms]
        self._over[span, name] = kept | {one.start_ms: one for one in over}
        return [*kept.values(), *(one for one in fresh if one.start_ms not in kept)]


def _after(known: dict[int, Point]) -> int:
    """The first moment that is not known."""
    return max(known, default=-1) + 1


def together(parts: Sequence[Rollup]) -> Rollup:
    """The same slice of several types as one."""
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
    """What a chart shows of a slice."""
    found, counts = activity([part]), part.counts
    failed = counts.get("retried", 0) + counts.get("dead", 0)
    return Point(
        start_ms=part.start_ms,
        seconds=part.seconds,
        done=counts.get("completed", 0),
        accepted=round(counts.get("accepted", 0) / part.seconds, 3),
        completed=round(counts.get("completed", 0) / part.seconds, 3),
        failed=round(failed / part.seconds, 3),
        backlog=counts.get("backlog"),
        wait_p95=_rounded(found.wait.p95),
        run_p95=_rounded(found.run.p95),
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
