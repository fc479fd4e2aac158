"""Walks over the lanes of one task type in one shard, in bounded steps: parked tasks, slots, turns, timers.

Owns how a fault is told from what only moves while the walk goes on: a lane's slots and its tasks are
compared at one instant, and everything is looked at twice. Must not write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamq.audit.walks import STEP, Found, Report
from streamq.calls import audit as audit_calls
from streamq.calls import lanes as lane_calls
from streamq.calls import question as question_calls
from streamq.calls.audit import Fault
from streamq.flow import Flow, ask
from streamq.keys import TypeKeys

LANES: Final = 16
"""Lanes that one look into turns, ripe or slots reads. A call looks as often as it has time for."""
DOUBTFUL: Final = 1000
"""Lanes whose slots are compared with their tasks one by one: what moves makes others differ for a moment."""
TASKS: Final = 200
"""Tasks of a lane that one call looks for. What a lane with more holds is judged only while nothing moves;
`--repair` counts those too."""
TRIES: Final = 3
STREAMS: Final = "shnl"
PLACES: Final = STREAMS + "d"
"""Where tasks hold slots: the streams, and the schedule for what an older worker handed back."""


def rows(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every parked task: it can be read, the index knows it, and it is in one state. Each step judges
    at one instant, so nothing is checked twice."""
    cursor = ""
    while True:
        walked = yield from ask(audit_calls.audit_lanes(t, cursor, STEP))
        yield from found(Found(walked.checked, list(walked.problems)))
        cursor = walked.cursor
        if not cursor:
            return


def turns(t: TypeKeys, found: Report) -> Flow[None]:
    """Check every lane: it has its turn if it may go, and a timer if time lets it go; what halts it is
    there."""
    for of in ("lanes", "turns", "ripe", "slots"):
        cursor = ""
        while True:
            walked = yield from ask(audit_calls.audit_turns(t, of, cursor, LANES))
            more = yield from _named(t, walked.left)
            first = [*walked.problems, *more.faults]
            again = set((yield from _named(t, [fault.where for fault in first])).faults)
            checked = walked.checked + more.checked
            yield from found(Found(checked, [fault for fault in first if fault in again]))
            cursor = walked.cursor
            if not cursor:
                break


def _named(t: TypeKeys, lanes: Sequence[str]) -> Flow[Found]:
    """Check these lanes, in as many calls as it takes."""
    checked, faults = 0, list[Fault]()
    while lanes:
        looked = yield from ask(audit_calls.audit_turns(t, "", "", LANES, lanes))
        checked, faults, lanes = checked + looked.checked, [*faults, *looked.problems], looked.left
    return Found(checked, faults)


# -- slots ---------------------------------------------------------------------------------------------


@dataclass
class _Tasks:
    """The tasks that hold slots, as a walk saw them. of: keep the ids of these lanes' tasks, of the others
    only how many there are."""

    of: Collection[str] = ()
    counted: Counter[str] = field(default_factory=Counter[str])
    ids: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    cursors: dict[str, str] = field(default_factory=lambda: dict.fromkeys(PLACES, ""))

    def walk(self, t: TypeKeys, places: str = PLACES) -> Flow[None]:
        """Go on to the end of each of these places."""
        for letter in places:
            more = True
            while more:
                step = yield from ask(lane_calls.slot_holders(t, letter, self.cursors[letter]))
                self.cursors[letter], more = step.last, step.more
                for lane, local in step.tasks:
                    self.counted[lane] += 1
                    if lane in self.of:
                        self.ids.setdefault(lane, []).append(local)


def slots(t: TypeKeys, found: Report) -> Flow[None]:
    """Check that each lane holds as many slots as it has tasks that are ready or running."""
    if not (yield from ask(lane_calls.are_there(t))):
        return
    doubtful = yield from _differing(t, found)
    if doubtful:
        doubtful &= yield from _differing(t, found)
    if not doubtful:
        return
    chosen = set(sorted(doubtful)[:DOUBTFUL])
    tasks = _Tasks(chosen)
    yield from tasks.walk(t)
    faults: list[Fault] = []
    for lane in sorted(chosen):
        if len(tasks.ids.get(lane, ())) <= TASKS:
            difference = yield from _held(t, lane, tasks)
            faults += [_fault(lane, *difference)] if difference else []
    yield from found(Found(0, faults))


def _fault(lane: str, written: int, there: int) -> Fault:
    return Fault("slots_differ", f"{lane!r}: {written} recorded, {there} actual")


def _differing(t: TypeKeys, found: Report) -> Flow[set[str]]:
    """Return the lanes whose numbers differ, though perhaps only as something moved meanwhile. Where nothing
    did, report those with many tasks."""
    before = (yield from ask(question_calls.counts(t))).counters, (yield from _written(t))
    tasks = _Tasks()
    yield from tasks.walk(t)
    written = yield from _written(t)
    after = (yield from ask(question_calls.counts(t))).counters, written
    differing = {
        lane for lane in written.keys() | tasks.counted.keys() if written.get(lane, 0) != tasks.counted[lane]
    }
    large = sorted(lane for lane in differing if tasks.counted[lane] > TASKS)
    if before == after:
        yield from found(
            Found(0, [_fault(lane, written.get(lane, 0), tasks.counted[lane]) for lane in large])
        )
    return differing - set(large)


def _written(t: TypeKeys) -> Flow[dict[str, int]]:
    """Return how many slots each lane is written to hold."""
    written: dict[str, int] = {}
    cursor = "0"
    while True:
        cursor, some = yield from ask(lane_calls.slots(t, cursor, 250))
        written |= some
        if cursor == "0":
            return written


def _held(t: TypeKeys, lane: str, tasks: _Tasks) -> Flow[tuple[int, int] | None]:
    """Return what a lane is written to hold and what it holds, if that differs in two looks."""
    found: tuple[int, int] | None = None
    for _ in range(2):
        found = yield from _compared(t, lane, tasks)
        if found is None or found[0] == found[1]:
            return None
    return found


def _compared(t: TypeKeys, lane: str, tasks: _Tasks) -> Flow[tuple[int, int] | None]:
    """Return the same numbers of one instant; None if too much comes in to read it at once."""
    for _ in range(TRIES):
        held = yield from ask(lane_calls.held(t, lane, tasks.cursors, tasks.ids.get(lane, ())))
        if held is not None:
            return held
        yield from tasks.walk(t, STREAMS)
    return None
