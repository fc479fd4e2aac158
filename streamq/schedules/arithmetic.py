"""When a schedule is due: the next time after a moment, and the jitter of a run.

Owns the rules of daylight saving (those of Debian's cron, as cronsim has them): a fixed hour and minute that
the clock leaps over is due at once after the leap, and one that comes twice is due at the first; with `*` in
the minute or the hour it goes by real time. Times are ms since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b

from streamq.options.schedule import Cron, Every, Schedule, cron_library, zone


def after(schedule: Schedule, anchor_ms: int, ms: int) -> int | None:
    """Return the first time later than `ms`; None where there is none. `anchor_ms`: what an interval counts
    from."""
    start, end = schedule.start_ms, schedule.end_ms
    if start is not None:
        ms = max(ms, start - 1)
    when = schedule.when
    found = _cron_after(when, ms) if isinstance(when, Cron) else _every_after(when, start, anchor_ms, ms)
    return found if found is not None and (end is None or found <= end) else None


def times(schedule: Schedule, anchor_ms: int, ms: int) -> Iterator[int]:
    """Yield the times later than `ms`, in their order."""
    found = after(schedule, anchor_ms, ms)
    while found is not None:
        yield found
        found = after(schedule, anchor_ms, found)


def _every_after(every: Every, start: int | None, anchor_ms: int, ms: int) -> int:
    interval = round(every.interval * 1000)
    anchor, first = (anchor_ms, 1) if start is None else (start, 0)
    return anchor + max(first, (ms - anchor) // interval + 1) * interval


def _cron_after(cron: Cron, ms: int) -> int | None:
    library = cron_library()
    try:
        base = datetime.fromtimestamp(ms // 1000, zone(cron.tz))
        for found in library.CronSim(cron.expression, base):
            # In the hour that comes twice, a fixed time is told again that has been.
            stamp: int = round(found.timestamp() * 1000)
            if stamp > ms:
                return stamp
    except (OverflowError, OSError, ValueError):  # beyond the year 9999
        return None
    return None


def run_name(name: str, ms: int) -> str:
    """Return the name of a run: that of its schedule and its time."""
    return f"{name}@{ms}"


def due(schedule: Schedule, name: str, ms: int) -> int:
    """Return when the run of this time is due: with a jitter later, by the same on every host."""
    jitter = round(schedule.jitter * 1000)
    if not jitter:
        return ms
    digest = blake2b(run_name(name, ms).encode(), digest_size=8).digest()
    return ms + int.from_bytes(digest, "big") % jitter
