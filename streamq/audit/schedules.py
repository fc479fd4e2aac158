"""The faults of a shard's stored schedules, and their repairs.

Owns what a sound row is: a definition, a state and arguments that can be read, and a due time exactly where a
run follows. Every repair writes a row as it was seen, or not at all.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from streamq.calls import question as question_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.audit import Fault
from streamq.calls.schedule import WAITING, Row
from streamq.errors import DecodeError, UsageError
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, shard_keys
from streamq.model.task import LOCAL_PATTERN, NAME_PATTERN, TYPE_PATTERN
from streamq.schedules import definition, registration, state
from streamq.schedules.definition import Definition
from streamq.schedules.registration import Change
from streamq.schedules.state import Origin, State
from streamq.stored import mapping

_PAGE: Final = 500


def faults(s: ShardKeys) -> Flow[tuple[int, list[Fault]]]:
    """Return how many schedules a shard has, and their faults. Raises ServerError."""
    rows = yield from _rows(s)
    found: list[Fault] = []
    for row in rows.values():
        found += yield from _row(s, row)
    found += yield from _due_without_row(s, rows.keys())
    return len(rows), found


def _rows(s: ShardKeys) -> Flow[dict[str, Row]]:
    found: dict[str, Row] = {}
    cursor = ""
    while True:
        cursor, rows = yield from ask(schedule_calls.page(s, cursor, _PAGE))
        found.update({row.name: row for row in rows})
        if not cursor:
            return found


def _row(s: ShardKeys, row: Row) -> Flow[list[Fault]]:
    try:
        known = definition.read(row.definition)
    except DecodeError:
        return [Fault("unreadable_schedule", row.name)]
    except UsageError:  # this program lacks the extra to reckon with it
        return []
    if not (yield from ask(schedule_calls.has_payload(s, row.name))):
        return [Fault("unreadable_schedule", row.name)]
    before = state.read(row.state)
    if before is None:
        return [Fault("unreadable_schedule_state", row.name)]
    wrong = [Fault("damaged_last_run", row.name)] if _damaged(before) else []
    if (row.due is None) != (registration.as_it_is(row.name, before, known).due is None):
        wrong.append(Fault("wrong_due_time", row.name))
    return wrong


def _damaged(state: State) -> bool:
    """Whether the last run is one that no task can be."""
    named = LOCAL_PATTERN.fullmatch(state.run) and TYPE_PATTERN.fullmatch(state.run_type)
    return bool(state.run or state.run_type) and not named


def _due_without_row(s: ShardKeys, names: Set[str]) -> Flow[list[Fault]]:
    found: list[Fault] = []
    start = 0
    while members := (yield from ask(schedule_calls.due_members(s, start, _PAGE))):
        start += len(members)
        for member in members:
            known = member.removesuffix(WAITING) in names
            found += (
                [] if known or not (yield from _orphaned(s, member)) else [Fault("orphaned_due_time", member)]
            )
    return found


def _orphaned(s: ShardKeys, member: str) -> Flow[bool]:
    """Whether a due time has no schedule, also now: it may have been put a moment ago."""
    if not (yield from ask(schedule_calls.is_due(s, member))):
        return False
    name = member.removesuffix(WAITING)
    if not NAME_PATTERN.fullmatch(name):
        return True
    row = yield from ask(schedule_calls.read(s, name))
    return row.definition is None and row.state is None


# -- repairs -------------------------------------------------------------------------------------------------


def remove_due(s: ShardKeys, member: str) -> Flow[bool]:
    """Remove a due time without a schedule."""
    name = member.removesuffix(WAITING)
    if NAME_PATTERN.fullmatch(name):
        return ask(schedule_calls.write(s, name, 0, b"", None))
    return ask(schedule_calls.drop_due(s, member))


def begin_anew(s: ShardKeys, name: str) -> Flow[bool]:
    """Let a schedule whose state cannot be read begin now."""
    before, known = yield from _read(s, name)
    if before is not None or known is None:
        return False
    now = yield from ask(question_calls.now(s.schedules))
    origin: Origin = "code" if (yield from _declared(s.app, name)) else "call"
    return (yield from _write(s, name, 0, registration.begun(name, known, origin, now)))


def write_due(s: ShardKeys, name: str) -> Flow[bool]:
    """Write the due time that a schedule's state asks for, or none."""
    before, known = yield from _read(s, name)
    if before is None or known is None:
        return False
    return (yield from _write(s, name, before.revision, registration.as_it_is(name, before, known)))


def forget_last_run(s: ShardKeys, name: str) -> Flow[bool]:
    """Remove what is said of the last run, if no run can be meant."""
    before, known = yield from _read(s, name)
    if before is None or known is None or not _damaged(before):
        return False
    change = registration.as_it_is(name, registration.without_last_run(before), known)
    return (yield from _write(s, name, before.revision, change))


def _read(s: ShardKeys, name: str) -> Flow[tuple[State | None, Definition | None]]:
    """Return what can be read of a schedule."""
    row = yield from ask(schedule_calls.read(s, name))
    try:
        return state.read(row.state), definition.read(row.definition)
    except (DecodeError, UsageError):
        return state.read(row.state), None


def _write(s: ShardKeys, name: str, revision: int, change: Change) -> Flow[bool]:
    return ask(schedule_calls.write(s, name, revision, change.state.stored(), change.due))


def _declared(app: str, name: str) -> Flow[bool]:
    """Whether the code of a worker declares a schedule: what code declares, code may change."""
    beats = yield from ask(question_calls.heartbeats(shard_keys(app, 0)))
    told = [mapping(raw).get("schedules") for raw in beats.values()]
    return any(isinstance(names, list) and name in names for names in told)
