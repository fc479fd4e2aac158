"""What must hold of schedules: each time that was due has its one run, or is skipped and counted. Pure.

A run carries the time that it is for, so what handlers noted can be held against the times that were due.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.census import Tally
from tests.chaos.promises import PROMISES, Promise
from tests.chaos.record import Finding
from tests.chaos.slots import Attempts, above, holds


def check(attempts: Attempts, final: Tally) -> Iterator[Finding]:
    """Everything that is wrong with schedules."""
    for name, state in final.schedules.items():
        if (promise := PROMISES.get(name)) is not None:
            yield from _schedule(name, promise, state, attempts)


def _schedule(name: str, promise: Promise, state: dict[str, object], attempts: Attempts) -> Iterator[Finding]:
    runs: dict[int, set[str]] = defaultdict(set)
    for attempt in attempts.by_type.get(name, []):
        runs[attempt.start["run"]].add(attempt.id)
    due = _due(state, promise)
    for run, tasks in runs.items():
        if len(tasks) > 1:
            yield Finding("run twice", name, f"{run} is {' and '.join(sorted(tasks))}")
        if run not in due:
            yield Finding("run of no time", name, f"{run} was not due: {due}")
    yield from _missing(name, promise, state, len(due), runs.keys() & set(due), due)
    if promise.at_once is not None and (together := above(holds(attempts.living(name)), promise.at_once)):
        yield Finding("runs overlap", name, " and ".join(together))


def _due(state: dict[str, object], promise: Promise) -> range:
    """The times that were dealt with: from one interval after the schedule was made."""
    step = promise.every * 1000
    return range(_number(state, "anchor") + step, _number(state, "last") + 1, step)


def _missing(
    name: str, promise: Promise, state: dict[str, object], times: int, ran: set[int], due: range
) -> Iterator[Finding]:
    """Every time has a run, or was skipped. The run that waits is given up when the schedule is paused."""
    told = state.get("skipped")
    skipped = sum(told.values()) if isinstance(told, dict) else 0
    if promise.overlap == "allow" and (gaps := sorted(set(due) - ran)):
        yield Finding("run missing", name, f"{len(gaps)} of {times}: {gaps[:5]}")
    if _number(state, "runs") != len(ran):
        yield Finding("run missing", name, f"{_number(state, 'runs')} were made, {len(ran)} ran")
    waited = promise.overlap == "queue_one"
    if not 0 <= times - len(ran) - skipped <= waited:
        yield Finding("run missing", name, f"of {times} times {len(ran)} ran and {skipped} were skipped")


def _number(state: dict[str, object], name: str) -> int:
    found = state.get(name)
    return found if isinstance(found, int) else 0
