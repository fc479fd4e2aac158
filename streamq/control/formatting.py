"""Format numbers, times, durations and sizes for people.

Owns how values are written, the same on a terminal and on a page. Must not know tasks, HTML or columns.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB")


def age(seconds: float | None, gap: str = "") -> str:
    """Return seconds as 4.2s, 3m10s, 5h02m, 3d04h; "-" for None. gap: text between a number and its unit."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f}{gap}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        parts = (f"{days}", "d"), (f"{hours:02}", "h")
    elif hours:
        parts = (f"{hours}", "h"), (f"{minutes:02}", "m")
    else:
        parts = (f"{minutes}", "m"), (f"{rest:02}", "s")
    return gap.join(f"{number}{gap}{unit}" for number, unit in parts)


def duration(seconds: float | None, gap: str = "") -> str:
    """Return the same with milliseconds below a second: 0.4ms, 120ms, 3.1s."""
    if seconds is None or seconds >= 1:
        return age(seconds, gap)
    digits = 1 if 0 < seconds < 0.01 else 0
    return f"{seconds * 1000:.{digits}f}{gap}ms"


def utc(ms: int) -> datetime | None:
    """Return ms since the epoch as a UTC time; None if no calendar has it."""
    try:
        return datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def moment(ms: int) -> str:
    """Return ms since the epoch as 2026-01-31T09:00:00Z."""
    at = utc(ms)
    return str(ms) if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z")


def rate(value: float | None) -> str:
    """Return events a second in a few digits: 0.02, 12.5, 1,240; "-" for None."""
    if value is None:
        return "-"
    if 0 < value < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def bar(done: float, total: float | None, width: int = 20) -> str:
    """Return how much is done as a bar of text: [########............]; "" without a total."""
    if not total or total < 0:
        return ""
    full = round(min(1.0, max(0.0, done / total)) * width)
    return f"[{'#' * full}{'.' * (width - full)}]"


def size(number: float) -> str:
    """Return bytes as 512 B, 2.0 KiB, 3.1 GiB."""
    for unit in _UNITS:
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
