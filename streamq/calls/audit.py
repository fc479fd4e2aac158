"""Build the calls of the audit: walks in bounded steps, checks of single places, repairs of single faults.

A walk only reports candidates for a check; a check judges at one instant; a repair checks again before it
writes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from streamq.calls.call import DEFAULT_LEASE_MS, Arg, Call, Reply, build, pairs, text
from streamq.keys import GROUP, TypeKeys, shard_keys
from streamq.model.counts import COUNTERS

BYTES: Final = 65536
"""A step of a walk ends after reading this many bytes: payloads may be of any size."""

SHOWN: Final = 40
"""The bytes shown of a counter that is not a number."""
_COUNTER: Final = re.compile(rb"-?[0-9]{1,17}")
_SEQUENCE: Final = re.compile(rb"[0-9]{1,15}")

Rows = Literal["index", "cancels", "dead", "unique", "after"]


class Walked(NamedTuple):
    """One step of a walk: the cursor to continue from ('' at the end), entries checked, candidates for a
    check.

    `late`: deliveries that are idle far beyond the lease.
    """

    cursor: str
    checked: int
    suspects: list[str]
    late: int = 0


FaultCode = Literal[
    "misplaced",
    "in_two_places",
    "alive_and_dead",
    "needless_index_row",
    "orphaned_index_row",
    "unreadable_row",
    "deleted_while_pending",
    "undelivered",
    "missing_letter",
    "unlisted_letter",
    "groups_differ",
    "changed_score",
    "unreadable_letter",
    "slots_differ",
    "stuck_lane",
    "stale_turn",
    "missing_timer",
    "stale_timer",
    "orphaned_halt",
    "counters_off",
    "unreadable_counter",
    "wrong_kind_counters",
    "orphaned_cancel",
    "unended_expired",
    "stale_waiters",
    "orphaned_lock",
    "orphaned_memo",
    "lost_child",
    "missing_lock",
    "stranded_successor",
    "missing_lifetime",
    "unwanted_lifetime",
    "wrong_kind",
    "unknown_key",
    "unserved_shard",
    "unlisted_type",
    "missing_group",
    "unreclaimed",
    "unpromoted",
    "flow_books_off",
    "lost_node",
    "stuck_flow",
    "overdue_blobs",
    "unreadable_schedule",
    "unreadable_schedule_state",
    "damaged_last_run",
    "wrong_due_time",
    "orphaned_due_time",
    "unchecked",
]
"""The code of each possible fault; `streamq.audit.fault` describes each."""


class Fault(NamedTuple):
    """A fault and the place or local id that has it."""

    code: FaultCode
    where: str


@dataclass(frozen=True, slots=True)
class KeyState:
    """A key on the server: the type of its value, and its remaining life in ms (-1 without expiry, -2 if it
    does not exist)."""

    key: str
    holds: str
    life_ms: int


_CODES: Final[dict[str, FaultCode]] = {code: code for code in get_args(FaultCode)}


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _walked(reply: list[Reply]) -> Walked:
    return Walked(text(reply[0]), reply[1], [_shown(one) for one in reply[2]])


def _faults(reply: list[Reply]) -> list[Fault]:
    return [Fault(_CODES[text(code)], _shown(where)) for code, where in pairs(reply)]


def _bytes(ids: Sequence[str]) -> list[Arg]:
    return [one.encode("utf-8", "surrogateescape") for one in ids]


# -- walks ---------------------------------------------------------------------------------------------


def audit_stream(t: TypeKeys, letter: str, cursor: str, limit: int) -> Call[Walked]:
    args = (GROUP, letter, cursor or "-", limit, BYTES)
    return build("audit_stream", args, _walked, t, stream=t.stream(letter))


def audit_schedule(t: TypeKeys, cursor: str, limit: int) -> Call[Walked]:
    return build("audit_schedule", (cursor, limit, BYTES), _walked, t)


class LaneFaults(NamedTuple):
    """A step of a walk over parked tasks or lanes: where to go on ('' at the end), the faults, and the lanes
    that were not checked."""

    cursor: str
    checked: int
    problems: tuple[Fault, ...]
    left: tuple[str, ...] = ()


def audit_lanes(t: TypeKeys, cursor: str, limit: int) -> Call[LaneFaults]:
    return build("audit_lanes", (*_bytes([cursor]), limit), _lane_faults, t)


def audit_turns(t: TypeKeys, of: str, cursor: str, limit: int, lanes: Sequence[str] = ()) -> Call[LaneFaults]:
    """Walk over lanes, turns, ripe or slots, or check these lanes: who may go has its turn, and a timer where
    it must wait for time. `left`: lanes that there was no time for."""
    return build(
        "audit_turns",
        (of, *_bytes([cursor]), limit, *_bytes(lanes)),
        lambda r: _lane_faults(r)._replace(left=tuple(map(_shown, r[3]))),
        t,
    )


def _lane_faults(reply: list[Reply]) -> LaneFaults:
    return LaneFaults(_shown(reply[0]), reply[1], tuple(_faults(reply[2])))


def audit_pending(t: TypeKeys, letter: str, cursor: str, limit: int, late_ms: int) -> Call[Walked]:
    """Walk a stream's pending deliveries. Suspects are the places of deliveries whose entry is gone."""
    args = (GROUP, letter, cursor or "-", limit, BYTES, DEFAULT_LEASE_MS, late_ms)
    return build(
        "audit_pending",
        args,
        lambda r: Walked(text(r[0]), r[1], [_shown(one) for one in r[3]], r[2]),
        t,
        stream=t.stream(letter),
    )


def audit_letters(t: TypeKeys, cursor: str, limit: int) -> Call[Walked]:
    return build("audit_letters", (cursor or "0", limit, BYTES), _walked, t)


def scan_rows(t: TypeKeys, of: Rows, cursor: str, limit: int) -> Call[Walked]:
    """Walk all ids of the index, the cancel requests or the list of dead letters, or the digests of all
    locks: each is a candidate."""
    key: str = getattr(t, of)
    command = "ZSCAN" if of == "dead" else "HSCAN"
    parse = _scanned_locks if of in ("unique", "after") else _scanned_rows
    return Call(None, (key,), (command, key, cursor or "0", "COUNT", limit), parse)


def _scanned_locks(reply: list[Reply]) -> Walked:
    ids = [name.hex() for name, _ in pairs(reply[1])]
    return Walked("" if reply[0] == b"0" else text(reply[0]), len(ids), ids)


def _scanned_rows(reply: list[Reply]) -> Walked:
    ids = [_shown(name) for name, _ in pairs(reply[1])]
    return Walked("" if reply[0] == b"0" else text(reply[0]), len(ids), ids)


def scan_keys(pattern: str, cursor: str, limit: int) -> Call[tuple[str, list[str]]]:
    """Scan one node for matching keys. Returns the cursor to continue from ('' at the end), and the keys."""
    args = ("SCAN", cursor or "0", "MATCH", pattern, "COUNT", limit)
    return Call(None, (), args, lambda r: ("" if r[0] == b"0" else text(r[0]), [_shown(key) for key in r[1]]))


# -- checks --------------------------------------------------------------------------------------------


def audit_places(t: TypeKeys, places: Sequence[str]) -> Call[list[Fault]]:
    return build("audit_place", (GROUP, *_bytes(places)), _faults, t)


def audit_rows(t: TypeKeys, of: Rows, ids: Sequence[str]) -> Call[tuple[int, list[Fault]]]:
    """Check rows. Returns how many of the ids were checked, and the faults."""
    return build("audit_rows", (GROUP, of, BYTES, *_bytes(ids)), lambda r: (r[0], _faults(r[1])), t)


def audit_dead(t: TypeKeys, ids: Sequence[str]) -> Call[list[Fault]]:
    return build("audit_dead", _bytes(ids), _faults, t)


def audit_keys(keys: Sequence[str]) -> Call[list[KeyState]]:
    """Return the type and remaining life of keys of one shard."""
    return build(
        "audit_keys",
        (),
        lambda r: [KeyState(key, text(holds), life) for key, (holds, life) in zip(keys, r, strict=True)],
        keys=keys,
    )


def consumers(t: TypeKeys, letter: str) -> Call[list[tuple[str, int, int]]]:
    """Return the name, number of deliveries held and idle ms of each consumer of a stream."""
    stream = t.stream(letter)
    return Call(None, (stream,), ("XINFO", "CONSUMERS", stream, GROUP), _consumers)


def _consumers(reply: list[Reply]) -> list[tuple[str, int, int]]:
    rows = [dict(pairs(row)) for row in reply]
    return [(_shown(row[b"name"]), row[b"pending"], row[b"idle"]) for row in rows]


def overdue_expiries(t: TypeKeys, before_ms: int) -> Call[int]:
    """Count the tasks that were to expire before `before_ms` and still have rows."""
    return Call(None, (t.expiring,), ("ZCOUNT", t.expiring, "-inf", before_ms), int)


def overdue_waiters(t: TypeKeys, before_ms: int) -> Call[int]:
    """Count the rows of `waiters` whose time was over before `before_ms`."""
    return Call(None, (t.waiters,), ("ZCOUNT", t.waiters, "-inf", before_ms), int)


# -- repairs -------------------------------------------------------------------------------------------


def repair_place(t: TypeKeys, place: str) -> Call[int]:
    return build("repair_place", (place,), int, t)


def repair_row(t: TypeKeys, of: Literal["index", "cancels"], local: str) -> Call[int]:
    return build("repair_row", (GROUP, of, *_bytes([local])), int, t)


def repair_pending(t: TypeKeys, place: str, local: str) -> Call[str]:
    """End a delivery without an entry. Returns ended, held or gone."""
    args = (GROUP, place, *_bytes([local]), t.done_channel, DEFAULT_LEASE_MS)
    return build("repair_pending", args, text, t, stream=t.stream(place[0]))


def repair_dead(t: TypeKeys, local: str) -> Call[int]:
    return build("repair_dead", _bytes([local]), int, t)


def repair_lock(t: TypeKeys, digest: str) -> Call[int]:
    return build("repair_lock", (GROUP, t.done_channel, digest), int, t)


def repair_claim(t: TypeKeys, place: str) -> Call[int]:
    return build("repair_claim", (t.done_channel, *_bytes([place])), int, t)


def repair_lifetime(key: str, lifetime_ms: int, counters: Sequence[str]) -> Call[int]:
    """Set a key's expiry; lifetime 0 removes it."""
    return build("repair_lifetime", (lifetime_ms,), int, key=key, counters=counters)


def repair_type(t: TypeKeys) -> Call[int]:
    return build("repair_type", (t.type,), int, t)


def repair_scores(t: TypeKeys) -> Call[tuple[int, bool]]:
    """Set the scores to 0 that another program has changed, a batch of them; then look at lanes that they
    hid. Returns how many scores, and whether there is more to do."""
    return build("repair_scores", (1000,), lambda r: (r[0], bool(r[1])), t)


def repair_lane(t: TypeKeys, lane: str) -> Call[int]:
    """Look at a lane again, and open it if nothing halts it any more."""
    return build("repair_lane", (*_bytes([lane]), t.type, shard_keys(t.app, t.shard).wake), int, t)


def repair_books(t: TypeKeys, imbalance: int) -> Call[int]:
    return build("repair_books", (imbalance,), int, t)


def unsound_counters(t: TypeKeys) -> Call[list[tuple[str, str]]]:
    """Return the counters that are not numbers, with their values."""
    return Call(None, (t.counters,), ("HGETALL", t.counters), _unsound)


def _unsound(reply: list[Reply]) -> list[tuple[str, str]]:
    return [
        (_shown(name), _shown(value[:SHOWN]))
        for name, value in pairs(reply)
        if not (_SEQUENCE if name == b"sequence" else _COUNTER).fullmatch(value)
    ]


def repair_counters(t: TypeKeys, *, write: bool) -> Call[list[tuple[str, str, str]]]:
    """Repair counters. Returns each counter with its old value, and the new one ('' if it starts from 0)."""
    names = ("sequence", *COUNTERS)
    return build("repair_counters", (int(write), *names), lambda r: [_row(*row) for row in r], t)


def _row(name: bytes, held: bytes, now: bytes) -> tuple[str, str, str]:
    return _shown(name), _shown(held), text(now)


def index_place(t: TypeKeys, local: str) -> Call[str]:
    """Return the place that the index has for a task; '' if it has none."""
    return Call(
        None, (t.index,), ("HGET", t.index, *_bytes([local])), lambda r: "" if r is None else _shown(r)
    )
