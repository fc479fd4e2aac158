"""What is asked of the lanes of a task type: limits, lists, and what puts their books right.

Building a Call does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from streamq.calls.call import Call, build, pairs, text
from streamq.calls.producer import NO_NOTE
from streamq.keys import TypeKeys, shard_keys
from streamq.model.reply import Note

NO_LANE: Final = "\x01"
"""The lane of tasks that name none."""
COUNTED: Final = 20_000
"""Entries and rows of a type at most, for what its lanes hold to be counted in one step."""


@dataclass(frozen=True, slots=True)
class LaneRow:
    """A lane as lists show it. running: the most of it that may run, None without a limit; first: the id of
    its first parked task, and `why` it waits; halted: the dead letter that shuts it; held_until_ms: 0 where
    it is not held back."""

    lane: str
    parked: int
    held: int
    running: int | None
    first: str
    why: str
    weight: float
    halted: str
    held_until_ms: int


def _told(t: TypeKeys) -> tuple[str, str]:
    return t.type, shard_keys(t.app, t.shard).wake


def limit(t: TypeKeys, lane: str, rules: str, note: Note = NO_NOTE) -> Call[str | None]:
    """Set the limits of one lane, or of the type if `lane` is empty; return those before. None: the type has
    no lanes and no limits there, and nothing was set."""
    return build(
        "limit", (lane, rules, *note, *_told(t)), lambda reply: None if reply == b"!" else text(reply), t
    )


def set_window(t: TypeKeys, window: int) -> Call[bool]:
    """Let so many tasks of a fair type be in its streams; answers whether it is one."""
    return build("set_window", (window, *_told(t)), bool, t)


def open_lane(t: TypeKeys, lane: str, note: Note = NO_NOTE) -> Call[bool]:
    """Let a lane go on that a dead letter halts, or that a handler holds back; answers whether one did."""
    return build("open_lane", (lane, *note, *_told(t)), bool, t)


def purge_lane(t: TypeKeys, lane: str, limit: int, note: Note = NO_NOTE) -> Call[int]:
    """End parked tasks of a lane as cancelled; answers how many."""
    return build("purge_lane", (lane, limit, t.done_channel, *note, *_told(t)), int, t)


def listed(t: TypeKeys, after: str, limit: int, only: str = "") -> Call[tuple[str, list[LaneRow]]]:
    """A page of the lanes with parked tasks, or one lane; answers where to go on, '' at the end."""
    return build("lane_list", (after, limit, only), lambda r: (text(r[0]), [_row(row) for row in r[1]]), t)


def _row(row: list[Any]) -> LaneRow:
    lane, parked, held, running, first, why, weight, halted, until = row
    return LaneRow(
        text(lane), parked, int(held), int(float(running)) if running else None, text(first), text(why),
        float(weight), text(halted), int(until or 0),
    )  # fmt: skip


def rules(t: TypeKeys) -> Call[dict[str, str]]:
    """What operators set, by lane; '' is the type."""
    return Call(None, (t.limits,), ("HGETALL", t.limits), lambda r: {text(k): text(v) for k, v in pairs(r)})


@dataclass(frozen=True, slots=True)
class Recount:
    """How many lanes held something else than was written; large: the entries of a type that has too many."""

    wrong: dict[str, tuple[int, int]]
    large: int = 0


def recount(t: TypeKeys, *, write: bool, most: int = COUNTED) -> Call[Recount]:
    """Count anew what each lane holds; answers (written, counted) of those where these differ. Without
    `write` nothing is put right."""
    if not write:
        return build("audit_slots", (most,), _recounted, t)
    return build("recount", (most, *_told(t)), _recounted, t)


def _recounted(reply: list[Any]) -> Recount:
    if reply and reply[0] == b"large":
        return Recount({}, reply[1])
    return Recount({text(lane): (written, counted) for lane, written, counted in reply})
