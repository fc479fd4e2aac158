"""Walks through one task type of one shard, in bounded steps; each tells what it has judged to be a fault.

Owns the cursors and the second look: a walk's suspects are looked at again, all at one instant, and what
is not a fault then and once more is none. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from streamq.calls import audit as audit_calls
from streamq.calls import lanes as lane_calls
from streamq.calls.audit import Fault, Walked
from streamq.calls.call import Call
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys
from streamq.model.task import STREAM_LETTERS

_Look = Callable[[Sequence[str]], Flow[list[Fault]]]
STEP: Final = 32
"""Entries a step walks over at most: a fraction of a millisecond of the server's time."""
LOOK: Final = 10
"""Places looked at closely by one call; each may hold a payload of any size."""
LATE_MS: Final = 60_000
"""A delivery that is idle for so much longer than its lease was passed over by twenty rounds of a daemon."""


class Found(NamedTuple):
    """A step's findings. `late`: deliveries idle far beyond their lease."""

    checked: int
    faults: list[Fault]
    late: int = 0


Tell = Callable[[Found], Flow[None]]
"""What a walk gives each step's findings to."""


def streams(t: TypeKeys, found: Tell) -> Flow[None]:
    """Every entry: the index knows it, it is in one state, and behind the group's mark it is held."""
    for letter in STREAM_LETTERS:
        yield from _walk(partial(_stream, t, letter), partial(_places, t), found)


def schedule(t: TypeKeys, found: Tell) -> Flow[None]:
    """Every row: it can be read, the index knows it, and it is in one state."""
    yield from _walk(lambda cursor: audit_calls.audit_schedule(t, cursor, STEP), partial(_places, t), found)


def lanes(t: TypeKeys, found: Tell) -> Flow[None]:
    """Every parked task: it can be read, the index knows it, and it is in one state; and each lane holds as
    many as are there. Each step judges at one instant, so nothing is looked at twice."""
    cursor = ""
    while True:
        walked = yield from ask(audit_calls.audit_lanes(t, cursor, STEP))
        yield from found(Found(walked.checked, list(walked.problems)))
        cursor = walked.cursor
        if not cursor:
            break
    counted = yield from ask(lane_calls.recount(t, write=False))
    for lane, (written, there) in counted.wrong.items():
        what = f"{lane!r}: {written} written, {there} there"
        yield from found(Found(0, [Fault("slots_differ", what)]))


def rows(of: audit_calls.Rows, t: TypeKeys, found: Tell) -> Flow[None]:
    """Every row of the index, the cancel requests or the list of the dead: it has its task."""
    yield from _walk(lambda cursor: audit_calls.scan_rows(t, of, cursor, STEP), partial(_rows, t, of), found)


def pending(t: TypeKeys, found: Tell) -> Flow[None]:
    """Every delivery: its entry is there, and its lease is renewed."""
    for letter in STREAM_LETTERS:
        yield from _walk(partial(_pending, t, letter), partial(_deleted, t), found)


def letters(t: TypeKeys, found: Tell) -> Flow[None]:
    """Every stored dead letter: it is listed. Only where there are more of them than are listed: HSCAN reads
    several at a time, whatever their size."""
    yield from _walk(lambda cursor: audit_calls.audit_letters(t, cursor, STEP), partial(_letters, t), found)


def _walk(step: Callable[[str], Call[Walked]], look: _Look, found: Tell) -> Flow[None]:
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
        looked, faults = yield from ask(audit_calls.audit_rows(t, of, ids[start : start + STEP]))
        found += faults
        start += looked
    return found


def _deleted(t: TypeKeys, places: Sequence[str]) -> Flow[list[Fault]]:
    """The deliveries whose entry is gone still."""
    found: list[Fault] = []
    for place in places:
        seen = yield from ask(audit_calls.audit_pending(t, place[0], place[1:], 1, LATE_MS))
        found += [Fault("deleted_while_pending", place) for suspect in seen.suspects if suspect == place]
    return found
