"""What must hold of schedules: each time that was due has its one run, or is skipped and counted. Pure.

A run carries the time that it is for, so what handlers noted can be held against the times that were due.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from tests.chaos.census import Tally
from tests.chaos.history import Event
from tests.chaos.promises import PROMISES, Promise
from tests.chaos.record import Finding
from tests.chaos.slots import Attempts, above, holds

GRACE: Final = 4_000_000_000
"""Ns within which a run has ended after the next one began: its worker may be blocked."""
_HARMLESS: Final = ("reset", "scripts_flushed")
"""Faults that delay no cancel request."""


def check(attempts: Attempts, final: Tally, faults: Iterable[Event] = ()) -> Iterator[Finding]:
    """Everything that is wrong with schedules."""
    disturbed = sorted(int(one["at"]) for one in faults if one.get("kind") not in _HARMLESS)
    for name, state in final.schedules.items():
        if (promise := PROMISES.get(name)) is not None:
            yield from _schedule(name, promise, state, attempts)
            if promise.overlap == "cancel":
                yield from _cancelled(name, attempts, final, disturbed)


def _cancelled(name: str, attempts: Attempts, final: Tally, disturbed: list[int]) -> Iterator[Finding]:
    """A run is cancelled when the next one begins, and by nothing else."""
    began: dict[int, int] = {}
    for attempt in attempts.by_type.get(name, []):
        began[attempt.start["run"]] = min(attempt.at, began.get(attempt.start["run"], attempt.at))
    in_order = sorted(began)
    for attempt in attempts.by_type.get(name, []):
        later = in_order[bisect_right(in_order, attempt.start["run"]) :]
        if not later:
            if (attempt.id, "cancelled") in final.ended:
                yield Finding("run cancelled", attempt.id, "no later run began")
            continue
        asked = began[later[0]]
        calm = not any(asked - GRACE <= at <= asked + GRACE for at in disturbed)
        if calm and math.inf > attempt.until > asked + GRACE:
            late = (attempt.until - asked) / 1e9
            yield Finding(
                "run not cancelled", attempt.id, f"it went on for {late:.1f} s after the next began"
            )


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
    if promise.overlap == "cancel":  # one that was cancelled may never have begun
        made = _number(state, "runs")
        if len(ran) > made or times - made - skipped:
            told = f"of {times} times {made} were made, {len(ran)} ran and {skipped} were skipped"
            yield Finding("run missing", name, told)
        return
    if _number(state, "runs") != len(ran):
        yield Finding("run missing", name, f"{_number(state, 'runs')} were made, {len(ran)} ran")
    waited = promise.overlap == "queue_one"
    if not 0 <= times - len(ran) - skipped <= waited:
        yield Finding("run missing", name, f"of {times} times {len(ran)} ran and {skipped} were skipped")


def _number(state: dict[str, object], name: str) -> int:
    found = state.get(name)
    return found if isinstance(found, int) else 0
