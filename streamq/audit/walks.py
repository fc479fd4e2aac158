"""Walks over one task type in one shard, in bounded steps; each reports confirmed faults.

Owns the cursors and the confirmation: a walk's suspects are checked twice, each time at one instant, and only
what is a fault both times is reported. Must not write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from streamq.audit import children as child_flows
from streamq.calls import audit as audit_calls
from streamq.calls import steps as step_calls
from streamq.calls.audit import Fault, Walked
from streamq.calls.call import Call
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys, shard_keys
from streamq.model.task import STREAM_LETTERS

_Look = Callable[[Sequence[str]], Flow[list[Fault]]]
STEP: Final = 32
"""Entries in one step at most: a fraction of a millisecond of the server's time."""
ROWS: Final = 200
"""Names of rows that one scan reads and one call is given: it checks as many as it has time for."""
LOOK: Final = 10
"""Places that one call checks; each may hold a payload of any size."""
_EVERY: Final = 1_000_000
LATE_MS: Final = 60_000
"""A delivery that is idle for that much longer than its lease was missed by twenty rounds of a daemon."""


class Found(NamedTuple):
    """A step's findings. `late`: deliveries idle far beyond their lease."""

    checked: int
    faults: list[Fault]
    late: int = 0


Report = Callable[[Found], Flow[None]]
"""Receives the findings of each step."""


def streams(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every entry: it is in the index, in one state only, and held if it was delivered."""
    for letter in STREAM_LETTERS:
        yield from _walk(partial(_stream, t, letter), partial(_places, t), found)


def schedule(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every row: it can be read, is in the index, and in one state only."""
    yield from _walk(lambda cursor: audit_calls.audit_schedule(t, cursor, STEP), partial(_places, t), found)


def memos(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every memo of a step: its task exists. Each step judges at one instant; a scan may meet a memo
    twice."""
    cursor, lost = "", set[str]()
    while True:
        step = yield from ask(step_calls.audit_steps(t, cursor, STEP))
        lost |= set(step.fields)
        yield from found(Found(step.checked, []))
        cursor = step.cursor
        if not cursor:
            break
    yield from found(Found(0, [Fault("orphaned_memo", field) for field in sorted(lost)]))


def children(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every task that waits for a flow: the flow exists."""
    lost = yield from child_flows.gone(shard_keys(t.app, t.shard), t, _EVERY)
    yield from found(Found(0, [Fault("lost_child", f"{one.task} {one.flow}") for one in lost]))


def rows(of: audit_calls.Rows, t: TypeKeys, found: Report) -> Flow[None]:
    """Check every row of the index, the cancel requests, the list of dead letters or the locks: its task
    exists."""
    yield from _walk(lambda cursor: audit_calls.scan_rows(t, of, cursor, ROWS), partial(_rows, t, of), found)


def pending(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every delivery: its entry exists, and its lease is renewed."""
    for letter in STREAM_LETTERS:
        yield from _walk(partial(_pending, t, letter), partial(_deleted, t), found)


def letters(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every stored dead letter: it is listed. Only if there are more than are listed: HSCAN reads
    several at a time, whatever their size."""
    yield from _walk(lambda cursor: audit_calls.audit_letters(t, cursor, STEP), partial(_letters, t), found)


def _walk(step: Callable[[str], Call[Walked]], look: _Look, found: Report) -> Flow[None]:
    cursor = ""
    while True:
        walked = yield from ask(step(cursor))
        faults = yield from _confirmed(look, walked.suspects)
        yield from found(Found(walked.checked, faults, walked.late))
        cursor = walked.cursor
        if not cursor:
            return


def _confirmed(look: _Look, suspects: Sequence[str]) -> Flow[list[Fault]]:
    first = (yield from look(suspects)) if suspects else []
    if not first:
        return []
    again = set((yield from look([fault.where for fault in first])))
    return [fault for fault in dict.fromkeys(first) if fault in again]


def _stream(t: TypeKeys, letter: str, cursor: str) -> Call[Walked]:
    return audit_calls.audit_stream(t, letter, cursor, STEP)


def _pending(t: TypeKeys, letter: str, cursor: str) -> Call[Walked]:
    return audit_calls.audit_pending(t, letter, cursor, STEP, LATE_MS)


def _places(t: TypeKeys, places: Sequence[str]) -> Flow[list[Fault]]:
    found: list[Fault] = []
    for n in range(0, len(places), LOOK):
        found += yield from ask(audit_calls.audit_places(t, places[n : n + LOOK]))
    return found


def _letters(t: TypeKeys, ids: Sequence[str]) -> Flow[list[Fault]]:
    found: list[Fault] = []
    for n in range(0, len(ids), LOOK):
        found += yield from ask(audit_calls.audit_dead(t, ids[n : n + LOOK]))
    return found


def _rows(t: TypeKeys, of: audit_calls.Rows, ids: Sequence[str]) -> Flow[list[Fault]]:
    found: list[Fault] = []
    start = 0
    while start < len(ids):
        looked, faults = yield from ask(audit_calls.audit_rows(t, of, ids[start : start + ROWS]))
        found += faults
        start += looked
    return found


def _deleted(t: TypeKeys, places: Sequence[str]) -> Flow[list[Fault]]:
    """Return the deliveries whose entry is still missing."""
    found: list[Fault] = []
    for place in places:
        seen = yield from ask(audit_calls.audit_pending(t, place[0], place[1:], 1, LATE_MS))
        found += [Fault("deleted_while_pending", place) for suspect in seen.suspects if suspect == place]
    return found
