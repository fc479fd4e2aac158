"""Walks through one task type of one shard, in bounded steps; each yields what it has judged to be a fault.

Owns the cursors and the second look: a walk's suspects are looked at again, all at one instant, and what
is not a fault then and once more is none. Writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from streamq import calls
from streamq.calls import Call, Fault, Walked
from streamq.keys import TypeKeys
from streamq.model import STREAM_LETTERS

R = TypeVar("R")
STEP: Final = 32
"""Entries a step walks over at most: a fraction of a millisecond of the server's time."""
LOOK: Final = 10
"""Places looked at closely by one call; each may hold a payload of any size."""
LATE_MS: Final = 60_000
"""A delivery that is idle for so much longer than its lease was passed over by twenty rounds of a daemon."""


class Ask(NamedTuple):
    """How to ask the server: runs one call."""

    run: Callable[[Call[Any]], Any]

    def __call__(self, call: Call[R]) -> R:
        reply: R = self.run(call)
        return reply


class Found(NamedTuple):
    """A step's findings. `late`: deliveries idle far beyond their lease."""

    checked: int
    faults: list[Fault]
    late: int = 0


def streams(ask: Ask, t: TypeKeys) -> Iterator[Found]:
    """Every entry: the index knows it, it is in one state, and behind the group's mark it is held."""
    for letter in STREAM_LETTERS:
        yield from _walk(ask, partial(_stream, t, letter), partial(_places, ask, t))


def schedule(ask: Ask, t: TypeKeys) -> Iterator[Found]:
    """Every row: it can be read, the index knows it, and it is in one state."""
    yield from _walk(ask, lambda cursor: calls.audit_schedule(t, cursor, STEP), partial(_places, ask, t))


def rows(ask: Ask, t: TypeKeys, of: calls.Rows) -> Iterator[Found]:
    """Every row of the index, the cancel requests or the list of the dead: it has its task."""
    yield from _walk(ask, lambda cursor: calls.scan_rows(t, of, cursor, STEP), partial(_rows, ask, t, of))


def pending(ask: Ask, t: TypeKeys) -> Iterator[Found]:
    """Every delivery: its entry is there, and its lease is renewed."""
    for letter in STREAM_LETTERS:
        yield from _walk(ask, partial(_pending, t, letter), partial(_deleted, ask, t))


def letters(ask: Ask, t: TypeKeys) -> Iterator[Found]:
    """Every stored dead letter: it is listed. Only where there are more of them than are listed: HSCAN reads
    several at a time, whatever their size."""
    yield from _walk(ask, lambda cursor: calls.audit_letters(t, cursor, STEP), partial(_letters, ask, t))


def _walk(
    ask: Ask, step: Callable[[str], Call[Walked]], look: Callable[[Sequence[str]], list[Fault]]
) -> Iterator[Found]:
    cursor = ""
    while True:
        walked = ask(step(cursor))
        yield Found(walked.checked, _confirmed(look, walked.suspects), walked.late)
        cursor = walked.cursor
        if not cursor:
            return


def _confirmed(look: Callable[[Sequence[str]], list[Fault]], suspects: Sequence[str]) -> list[Fault]:
    first = look(suspects) if suspects else []
    if not first:
        return []
    again = set(look([fault.where for fault in first]))
    return [fault for fault in dict.fromkeys(first) if fault in again]


def _stream(t: TypeKeys, letter: str, cursor: str) -> Call[Walked]:
    return calls.audit_stream(t, letter, cursor, STEP)


def _pending(t: TypeKeys, letter: str, cursor: str) -> Call[Walked]:
    return calls.audit_pending(t, letter, cursor, STEP, LATE_MS)


def _places(ask: Ask, t: TypeKeys, places: Sequence[str]) -> list[Fault]:
    found: list[Fault] = []
    for n in range(0, len(places), LOOK):
        faults: list[Fault] = ask(calls.audit_places(t, places[n : n + LOOK]))
        found += faults
    return found


def _letters(ask: Ask, t: TypeKeys, ids: Sequence[str]) -> list[Fault]:
    found: list[Fault] = []
    for n in range(0, len(ids), LOOK):
        faults: list[Fault] = ask(calls.audit_dead(t, ids[n : n + LOOK]))
        found += faults
    return found


def _rows(ask: Ask, t: TypeKeys, of: calls.Rows, ids: Sequence[str]) -> list[Fault]:
    found: list[Fault] = []
    start = 0
    while start < len(ids):
        looked, faults = ask(calls.audit_rows(t, of, ids[start : start + STEP]))
        found += faults
        start += looked
    return found


def _deleted(ask: Ask, t: TypeKeys, places: Sequence[str]) -> list[Fault]:
    """The deliveries whose entry is gone still."""
    found: list[Fault] = []
    for place in places:
        seen = ask(calls.audit_pending(t, place[0], place[1:], 1, LATE_MS))
        found += [Fault("deleted_while_pending", place) for suspect in seen.suspects if suspect == place]
    return found
