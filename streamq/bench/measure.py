"""Measure the figures, each in the same way for either side.

Owns how a figure is measured: counts, rounds, medians. Both sides take turns in every round, because the
speed of a shared machine changes by the minute.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from streamq.bench import record
from streamq.bench.side import Side
from streamq.errors import UsageError

Figure = float | dict[str, float]
LIMIT: Final = 120.0
"""Seconds after which a measurement is given up."""


def run(coroutine: Coroutine[object, object, float]) -> float:
    """Run on uvloop if it is installed, as workers do."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.run(coroutine)
    seconds: float = uvloop.run(coroutine)
    return seconds


def enqueue(side: Side, count: int) -> float:
    return count / side.one(count)


def enqueue_async(side: Side, count: int) -> float:
    return count / run(side.aone(count))


def enqueue_concurrent(side: Side, count: int) -> float:
    return count / run(side.concurrent(count))


def enqueue_many(side: Side, count: int) -> float:
    return count / side.many(count)


def drain(side: Side, count: int, *, stored: bool = False, processes: int = 1) -> float:
    """Return tasks a second for a backlog that exists before the worker: from the first start to the last."""
    side.many(count, stored=stored)
    with recording() as folder, side.worker(processes):
        wait_for(folder, count)
        return rate(record.read(folder))


def drain_stored(side: Side, count: int) -> float:
    return drain(side, count, stored=True)


def drain_two(side: Side, count: int) -> float:
    return drain(side, count, processes=2)


def wait(side: Side, count: int) -> Figure:
    """Return the ms from the enqueue call to the handler's start, with an idle worker."""
    with recording() as folder, side.worker():
        side.spaced(20, 0.05)
        wait_for(folder, 20)
        began = time.monotonic_ns()
        side.spaced(count, 0.01)
        wait_for(folder, count + 20)
        return spread([(at - stamp) / 1e6 for stamp, at in record.read(folder) if stamp >= began])


def lateness(side: Side, count: int) -> Figure:
    """Return the ms from the due time of a delayed task to the handler's start."""
    with recording() as folder, side.worker(), side.daemon():
        side.spaced(20, 0.05)
        wait_for(folder, 20)
        time.sleep(0.5)
        side.delayed(count, 1.0, 0.01)
        wait_for(folder, count + 20)
        late = [(at - stamp) / 1e6 for stamp, at in sorted(record.read(folder), key=lambda pair: pair[1])]
        return spread(late[20:])


def bytes_per_ready_task(side: Side, count: int) -> float:
    side.many(count)
    return side.bytes_used() / count


def bytes_per_delayed_task(side: Side, count: int) -> float:
    side.delayed(count, 3600.0, 0.0)
    return side.bytes_used() / count


@contextmanager
def recording() -> Generator[Path]:
    """Yield a folder that workers started meanwhile write their marks to."""
    folder = Path(tempfile.mkdtemp(prefix="streamq-bench-"))
    os.environ[record.FOLDER] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(record.FOLDER, None)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(folder: Path, count: int) -> None:
    """Wait until this many tasks have started. Raise UsageError if that takes too long."""
    deadline = time.monotonic() + LIMIT
    while record.count(folder) < count:
        if time.monotonic() > deadline:
            raise UsageError(
                f"measurement stopped: only {record.count(folder)} of {count} tasks ran within {LIMIT:g} s"
            )
        time.sleep(0.05)


def rate(marks: list[tuple[int, int]]) -> float:
    times = [at for _, at in marks]
    return (len(times) - 1) / ((max(times) - min(times)) / 1e9)


def spread(values: list[float]) -> dict[str, float]:
    """Return p50, p95 and p99."""
    ordered = sorted(values)
    return {f"p{n}": ordered[min(len(ordered) - 1, len(ordered) * n // 100)] for n in (50, 95, 99)}


FIGURES: Final[dict[str, tuple[Callable[[Side, int], Figure], int]]] = {
    "enqueue_per_s": (enqueue, 4_000),
    "enqueue_async_per_s": (enqueue_async, 4_000),
    "enqueue_concurrent_per_s": (enqueue_concurrent, 40_000),
    "enqueue_many_per_s": (enqueue_many, 60_000),
    "drain_per_s": (drain, 100_000),
    "drain_stored_per_s": (drain_stored, 100_000),
    "drain_two_per_s": (drain_two, 150_000),
    "wait_ms": (wait, 500),
    "lateness_ms": (lateness, 300),
    "bytes_per_ready_task": (bytes_per_ready_task, 10_000),
    "bytes_per_delayed_task": (bytes_per_delayed_task, 2_000),
}
"""Each figure with its function and its number of tasks."""


def once(side: Side, figure: str, scale: float) -> Figure:
    """Take one measurement on a clean server, and leave nothing behind."""
    function, count = FIGURES[figure]
    side.clean()
    try:
        return function(side, max(100, round(count * scale) // 100 * 100))
    finally:
        side.clean()


def compare(
    sides: list[Side], figures: list[str], rounds: int, scale: float, progress: Callable[[], None]
) -> dict[str, dict[str, Figure]]:
    """Return medians by side and figure. The sides take turns; the first one changes with the round."""
    found: dict[tuple[str, str], list[Figure]] = {}
    for figure in figures:
        for n in range(rounds):
            for side in sides[n % len(sides) :] + sides[: n % len(sides)]:
                found.setdefault((side.name, figure), []).append(once(side, figure, scale))
                progress()
    return {side.name: {figure: median(found[side.name, figure]) for figure in figures} for side in sides}


def median(values: list[Figure]) -> Figure:
    shares = [value for value in values if isinstance(value, dict)]
    if shares:
        return {name: statistics.median(one[name] for one in shares) for name in shares[0]}
    return statistics.median(value for value in values if not isinstance(value, dict))
