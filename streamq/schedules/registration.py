"""What becomes of a schedule that is put, declared, paused, resumed or found an orphan.

Owns the rules of a deploy: a definition in code that was replaced does not return with a process of the old
release, and code touches nothing that a call has put. A row that is to stay as it is gives no change.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from streamq.options.schedule import Schedule
from streamq.schedules import arithmetic
from streamq.schedules.definition import Definition
from streamq.schedules.state import Origin, Paused, State

ORPHANED_MS: Final = 3_600_000
"""Ms for which no live worker declared a schedule of the code after which it is removed."""


class Change(NamedTuple):
    """A state to be written, and the due time of the next run; None where none follows."""

    state: State
    due: int | None


class Stored(NamedTuple):
    """A schedule as it stands. definition: None where it cannot be read."""

    state: State
    fingerprint: str
    definition: Definition | None


def put(name: str, wanted: Definition, before: Stored | None, now: int) -> Change | None:
    """By a call: it replaces whatever is there."""
    if before is None:
        return begun(name, wanted, "call", now)
    if before.state.origin == "call" and before.fingerprint == wanted.fingerprint:
        return None
    return _replaced(name, wanted, before, "call", now)


def declare(name: str, wanted: Definition, before: Stored | None, now: int) -> Change | None:
    """By code that a process has loaded."""
    if before is None:
        return begun(name, wanted, "code", now)
    known = (before.fingerprint, *before.state.prints)
    if before.state.origin == "call" or wanted.fingerprint in known:
        return None
    return _replaced(name, wanted, before, "code", now)


def paused(before: State, by: Paused) -> Change:
    """Nothing is due until it is resumed."""
    return Change(replace(before, revision=before.revision + 1, paused=by, waiting=None), None)


def resumed(name: str, before: State, definition: Definition, now: int) -> Change:
    """From now on; what was missed during the pause is not made up for."""
    following = (
        _following(definition.schedule, before, before.anchor, now) if before.next is not None else None
    )
    return _change(name, definition, replace(before, paused=None, next=following))


def announced(name: str, before: State, definition: Definition, now: int, *, by_code: bool) -> Change | None:
    """Whether the code of a live worker declares it. None where that is known already."""
    if by_code == (before.orphan is None):
        return None
    return _change(name, definition, replace(before, orphan=None if by_code else now))


def over(before: State, now: int) -> bool:
    """Whether it has been an orphan for so long that it is to be removed."""
    return before.orphan is not None and now - before.orphan >= ORPHANED_MS


def as_it_is(name: str, before: State, definition: Definition) -> Change:
    """For a row whose due time was lost, or is none that it should have."""
    return _change(name, definition, before)


def without_last_run(before: State) -> State:
    """For a row whose last run is none that a task can be: the next run does not look at it."""
    return replace(before, run="", run_type="")


def leaving(before: State) -> Change:
    """Nothing is due any more where it lies: it is on its way to another shard."""
    return Change(replace(before, revision=before.revision + 1, leaving=True, waiting=None), None)


def arrived(name: str, before: State, definition: Definition) -> Change:
    """In its new shard. Its last run stays where it was."""
    return _change(name, definition, replace(before, revision=0, leaving=False, run="", waiting=None))


def begun(name: str, wanted: Definition, origin: Origin, now: int) -> Change:
    """As if nothing had been there before."""
    first = arithmetic.after(wanted.schedule, now, now)
    state = State(origin=origin, anchor=now, next=first, left=wanted.schedule.times)
    return _change(name, wanted, state)


def _replaced(name: str, wanted: Definition, before: Stored, origin: Origin, now: int) -> Change:
    """Another definition in its place. Where its times are the same they go on, so that a deploy puts off no
    run."""
    old, state = before.definition, replace(before.state, origin=origin, orphan=None)
    if before.fingerprint and before.fingerprint != wanted.fingerprint:
        state = state.replaced(before.fingerprint)
    state = replace(state, prints=tuple(one for one in state.prints if one != wanted.fingerprint))
    if old is None or _times(old.schedule) != _times(wanted.schedule):
        anchor = state.anchor if old is not None and old.schedule.when == wanted.schedule.when else now
        following = _following(wanted.schedule, state, anchor, now)
        state = replace(state, anchor=anchor, next=following, left=wanted.schedule.times)
    return _change(name, wanted, state)


def _times(schedule: Schedule) -> tuple[object, ...]:
    """What its times depend on."""
    return schedule.when, schedule.start_ms, schedule.end_ms, schedule.jitter, schedule.times


def _following(schedule: Schedule, state: State, anchor: int, now: int) -> int | None:
    """The next time. One that was dealt with does not come again, also where the clock was set back."""
    return arithmetic.after(schedule, anchor, max(now, state.last))


def _change(name: str, definition: Definition, state: State) -> Change:
    state = replace(state, revision=state.revision + 1)
    if state.next is None or state.paused is not None or state.leaving:
        return Change(replace(state, waiting=None), None)
    return Change(state, arithmetic.due(definition.schedule, name, state.next))
