"""Build the calls for the steps of a task: store the memo of one, read all, and audit them.

Owns their arguments and replies. Knows nothing of what a memo holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from streamq.calls.call import Call, Reply, build, pairs, text
from streamq.calls.call import number as number_of
from streamq.keys import GROUP, TypeKeys

MOST: Final = 1_000
"""The most steps of a task."""
MOST_BYTES: Final = 4_194_304
"""The most bytes of their memos together."""
_AUDIT_BYTES: Final = 262_144
_READ_BYTES: Final = 262_144
"""How much one call reads, which keeps the server for less than a millisecond."""


class Stored(NamedTuple):
    """What became of a memo. kept: that of an earlier call, which stays. lost: the delivery is no longer the
    caller's. full: the number and the bytes that would be too many."""

    kept: bytes | None = None
    lost: bool = False
    full: tuple[int, int] | None = None


def checkpoint(
    t: TypeKeys, consumer: str, place: str, local: str, name: str, value: bytes, *, again: bool = False
) -> Call[Stored]:
    """Store the memo of a step of a task that this consumer holds. again: in place of an earlier one."""
    args = (GROUP, consumer, place, local, name, value, int(again), MOST, MOST_BYTES)
    return build("checkpoint", args, _stored, t)


def _stored(reply: list[Reply]) -> Stored:
    match text(reply[0]):
        case "lost":
            return Stored(lost=True)
        case "full":
            return Stored(full=(reply[1], reply[2]))
        case "kept":
            return Stored(kept=reply[1])
        case _:
            return Stored()


def number(t: TypeKeys) -> Call[int]:
    """Return how many fields the memos of a type have."""
    return Call(None, (t.steps,), ("HLEN", t.steps), int)


class Memos(NamedTuple):
    """Some memos of a task by the names of their steps; following: the number of the next, 0 at the end."""

    following: int
    by_name: dict[str, bytes]


def memos(t: TypeKeys, local: str, first: int = 1) -> Call[Memos]:
    """Read memos of a task from a number on."""
    return build("memos", (local, first, _READ_BYTES), _memos, t)


def _memos(reply: list[Reply]) -> Memos:
    return Memos(reply[0], {_shown(name): memo for name, memo in pairs(reply[1:])})


def scan(t: TypeKeys, cursor: int, pattern: bytes) -> Call[tuple[int, list[str]]]:
    """Read the names of about 100 fields of the memos of a type, those that are like this; return the cursor
    to continue from, 0 at the end, and the names."""
    args = ("HSCAN", t.steps, cursor, "MATCH", pattern, "COUNT", 100)
    return Call(None, (t.steps,), args, _scanned)


def _scanned(reply: list[Reply]) -> tuple[int, list[str]]:
    return number_of(reply[0]), [_shown(name) for name in reply[1][::2]]


class Orphans(NamedTuple):
    """One step of a walk over the memos: the cursor to continue from ('' at the end), how many were checked,
    and the names of the fields that belong to no task."""

    cursor: str
    checked: int
    fields: list[str]


def audit_steps(t: TypeKeys, cursor: str, limit: int) -> Call[Orphans]:
    return build("audit_steps", (GROUP, cursor or "0", limit, _AUDIT_BYTES), _orphans, t)


def _orphans(reply: list[Reply]) -> Orphans:
    return Orphans(text(reply[0]), reply[1], list(map(_shown, reply[2])))


def repair_steps(t: TypeKeys, field: str) -> Call[int]:
    return build("repair_steps", (GROUP, field.encode("utf-8", "surrogateescape")), int, t)


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
