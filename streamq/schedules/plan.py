"""What is to be done with a schedule whose time has come: one step at a time.

Owns the rule for misfires. Whether a run is skipped since the one before has not ended, the script decides.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NamedTuple

from streamq.options.schedule import Every, Schedule
from streamq.schedules import arithmetic
from streamq.schedules.state import State

MOST_AT_ONCE: Final = 100
"""Runs at most that `misfire="all"` makes of a long absence: the latest of them."""
_LOOKED_AT: Final = 1000
"""Missed times that one step counts: reckoning them takes time, and the daemon has more to do."""


class Move(NamedTuple):
    """A step: the time of the run to make, None for none; how many times are skipped; the latest time that is
    dealt with; and the time and the due time of the next run, None where none follows."""

    run: int | None
    skipped: int
    upto: int
    next: int | None
    due: int | None


def step(schedule: Schedule, name: str, state: State, now_ms: int) -> Move | None:
    """Return what is to be done now; None where nothing is due."""
    first = state.next
    if first is None or now_ms < arithmetic.due(schedule, name, first):
        return None
    late = now_ms - round(schedule.grace * 1000)
    if arithmetic.due(schedule, name, first) >= late:
        return _move(schedule, name, state, first, 0, first)
    missed, whole = _missed(schedule, name, state, first, now_ms)
    if len(missed) > MOST_AT_ONCE and not whole:
        return _skip_most(schedule, name, state, missed, now_ms)
    if schedule.misfire == "all":
        if len(missed) > MOST_AT_ONCE:
            return _move(schedule, name, state, None, len(missed) - MOST_AT_ONCE, missed[-MOST_AT_ONCE - 1])
        return _move(schedule, name, state, first, 0, first)
    if schedule.misfire == "last":
        return _move(schedule, name, state, missed[-1], len(missed) - 1, missed[-1])
    gone = [ms for ms in missed if arithmetic.due(schedule, name, ms) < late]
    return _move(schedule, name, state, None, len(gone), gone[-1])


def _missed(schedule: Schedule, name: str, state: State, first: int, now_ms: int) -> tuple[list[int], bool]:
    """The times from the first on that are due by now, and whether these are all."""
    found = [first]
    for ms in islice(arithmetic.times(schedule, state.anchor, first), _LOOKED_AT):
        if arithmetic.due(schedule, name, ms) > now_ms:
            return found, True
        found.append(ms)
    return found, len(found) <= _LOOKED_AT


def _skip_most(schedule: Schedule, name: str, state: State, missed: list[int], now_ms: int) -> Move:
    """Of more times than are looked at, those that no rule would make a run of."""
    when = schedule.when
    if isinstance(when, Every):
        interval = round(when.interval * 1000)
        gone = max(1, (now_ms - round(schedule.jitter * 1000) - missed[0]) // interval - MOST_AT_ONCE)
        return _move(schedule, name, state, None, gone, missed[0] + (gone - 1) * interval)
    return _move(schedule, name, state, None, len(missed) - MOST_AT_ONCE, missed[-MOST_AT_ONCE - 1])


def _move(schedule: Schedule, name: str, state: State, run: int | None, skipped: int, upto: int) -> Move:
    following = arithmetic.after(schedule, state.anchor, upto)
    due = None if following is None else arithmetic.due(schedule, name, following)
    return Move(run, skipped, upto, following, due)
