"""What is asked of the lanes of a task type: limits, lists, and what puts their books right.

Building a Call does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from streamq.calls.call import Arg, Call, build, pairs, text
from streamq.calls.producer import NO_NOTE
from streamq.keys import TypeKeys, shard_keys
from streamq.model.reply import Note

NO_LANE: Final = "\x01"
"""The lane of tasks that name none."""
ENTRIES: Final = 100
"""Entries and rows that one step of a count reads at most: one or two milliseconds of the server, where each
is of another lane."""
BYTES: Final = 65536
"""The same in bytes: payloads may be of any size."""


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


class Counted(NamedTuple):
    """A step of a count of what lanes hold: whether there is more to do, and the lanes that were put right,
    each with what was written and what is there."""

    more: bool
    wrong: dict[str, tuple[int, int]]


def recount(t: TypeKeys, most: int = ENTRIES) -> Call[Counted]:
    """Take a step of a count of what each lane holds, which puts right where that is not what is written."""
    return build("recount", (most, BYTES, *_told(t)), _counted, t)


def _counted(reply: list[Any]) -> Counted:
    return Counted(
        bool(reply[0]), {text(lane): (int(written), int(there)) for lane, written, there in reply[1]}
    )


def are_there(t: TypeKeys) -> Call[bool]:
    """Whether a type has lanes, or had some that left something."""
    keys = (t.rules, t.lanes, t.turns, t.ripe, t.slots)
    return Call(None, keys, ("EXISTS", *keys), bool)


class SlotHolders(NamedTuple):
    """A step of a walk over the tasks that hold slots: whether there is more, the last place that was read,
    and the lane and local id of each task."""

    more: bool
    last: str
    tasks: list[tuple[str, str]]


def slot_holders(t: TypeKeys, letter: str, cursor: str) -> Call[SlotHolders]:
    """Walk on through a stream, or through the schedule (letter d)."""
    return build("audit_slots", (letter, cursor, ENTRIES, BYTES), _slot_holders, t)


def _slot_holders(reply: list[Any]) -> SlotHolders:
    following, last, tasks = reply
    return SlotHolders(
        following != b"", text(last), [(raw(lane), raw(local)) for lane, local in pairs(tasks)]
    )


def slots(t: TypeKeys, cursor: str, limit: int) -> Call[tuple[str, dict[str, int]]]:
    """A page of what lanes are written to hold; answers where to go on, "0" at the end."""
    return Call(None, (t.slots,), ("HSCAN", t.slots, cursor, "COUNT", limit), _slots)


def _slots(reply: list[Any]) -> tuple[str, dict[str, int]]:
    written = {raw(lane): value.partition(b";")[0] for lane, value in pairs(reply[1]) if lane}
    return text(reply[0]), {lane: int(held) for lane, held in written.items() if held.isdigit()}


def held(
    t: TypeKeys, lane: str, cursors: Mapping[str, str], ids: Sequence[str]
) -> Call[tuple[int, int] | None]:
    """What a lane is written to hold, and what it holds of these tasks and of what came in after the
    cursors. None: more came than one call reads."""
    at = (cursors["h"], cursors["n"], cursors["l"], cursors["s"])
    args: list[Arg] = [stored(lane), ENTRIES, BYTES, *at, *map(stored, ids)]
    return build("audit_held", args, lambda r: None if r is None else (int(r[0]), int(r[1])), t)


def raw(name: bytes) -> str:
    """A name that another program may have written, as text that `stored` turns back."""
    return name.decode("utf-8", "surrogateescape")


def stored(name: str) -> bytes:
    """The bytes of such a name."""
    return name.encode("utf-8", "surrogateescape")


def unlaned(t: TypeKeys) -> Call[tuple[int, int]]:
    """Look at the first tasks of a type with lanes; return how many these were, and those without a lane."""
    return build("unlaned", (ENTRIES, BYTES), lambda r: (r[0], r[1]), t)
