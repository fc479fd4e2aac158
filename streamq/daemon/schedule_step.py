"""What becomes of a schedule whose time has come: its run is made or skipped, and it moves to its next time.

Owns that step, for a daemon and for the test kit. When it is taken, and who is told, is up to the caller.
What the step is, is reckoned in `schedules.plan`; the script `tick` takes it if the row is as it was seen.
"""

from __future__ import annotations

from typing import NamedTuple

from streamq.calls import producer as producer_calls
from streamq.calls import schedule as schedule_calls
from streamq.calls.schedule import Beside, DueRow, Mode, Ticked
from streamq.control.schedule_rows import Found, reckoned, upgrade, write
from streamq.flow import Flow, ask
from streamq.keys import ShardKeys, TypeKeys, type_keys
from streamq.model.task import NAME_PATTERN, TaskId
from streamq.schedules import plan, registration
from streamq.schedules.definition import Definition
from streamq.schedules.plan import Move
from streamq.schedules.state import State


class Taken(NamedTuple):
    """A step that was taken: the keys of the run's type, how the schedule moves, what became of the run."""

    keys: TypeKeys
    move: Move
    ticked: Ticked


def take(shard: ShardKeys, row: DueRow, now_ms: int) -> Flow[Taken | None]:
    """Take the next step of a row; return None if there was none, or another process has taken it."""
    one, name = Found(shard, row.row), row.row.name
    if row.row.definition is None and row.row.state is None and NAME_PATTERN.fullmatch(name):
        yield from ask(schedule_calls.write(shard, name, 0, b"", None))
        return None
    found, known = reckoned(one)
    if row.waiting:
        # The run that waited for the end of the one before; it is looked at again while that has not come.
        beside: Beside = "end_first" if known.schedule.overlap == "cancel" else "queue_one"
        move = Move(found.waiting, 0, found.last, None, None)
    elif (due := plan.step(known.schedule, name, found, now_ms)) is None:
        yield from write(one, registration.as_it_is(name, found, known))
        return None
    else:
        beside, move = _beside(known), due
    taken = yield from _tick(row, one, move, beside)
    if taken is not None and _ends_last(beside, taken.ticked):
        yield from _cancel_last(shard, found)
    return taken


def _beside(known: Definition) -> Beside:
    overlap = known.schedule.overlap
    if overlap != "cancel":
        return overlap
    return "end_first" if known.has_key else "replace"  # its key is free when the other has ended


def _ends_last(beside: Beside, ticked: Ticked) -> bool:
    """Whether the run before is to end. Known when the step is taken: where another process was faster, or
    the run is refused, none takes its place."""
    return beside in ("replace", "end_first") and (
        ticked.outcome in ("made", "waiting") or ticked[:2] == ("skipped", "overlap")
    )


def _cancel_last(shard: ShardKeys, found: State) -> Flow[None]:
    """End the run before at once: the step has only left the request. Twice is harmless: it is named by its
    id."""
    if found.run and found.run_type:
        task = TaskId(found.run_type, shard.shard, found.run)
        keys = type_keys(shard.app, shard.shard, found.run_type)
        yield from ask(producer_calls.cancel(keys, shard, task))


def _tick(row: DueRow, one: Found, move: Move, beside: Beside) -> Flow[Taken | None]:
    found, known = reckoned(one)
    keys = type_keys(one.keys.app, one.keys.shard, known.type)
    mode: Mode = "waiting" if row.waiting else "tick"
    call = schedule_calls.tick(keys, one.keys, mode, one.name, found.revision, row.score, move, beside, known)
    ticked = yield from ask(call)
    if ticked.outcome == "rich":
        yield from upgrade(one.keys.app, one)
        again = yield from ask(schedule_calls.read(one.keys, one.name))
        upgraded = Found(one.keys, again._replace(due=row.row.due))
        if reckoned(upgraded)[1] == known:
            return None
        return (yield from _tick(row._replace(row=upgraded.row), upgraded, move, beside))
    return None if ticked.outcome == "lost" else Taken(keys, move, ticked)
