"""Build the calls that list in pages: tasks by state, groups of dead letters, paused types, the action log.

Owns how a page's rows are parsed. Must not write.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from streamq import stored_result
from streamq.calls.call import Arg, Call, Reply, build, moment, number, pairs, text
from streamq.keys import GROUP, ShardKeys, TypeKeys
from streamq.model.task import State


class Row(NamedTuple):
    """A task in a list. `fields` are its stored fields with the payload truncated (see `size`).

    place: where it is now. at_ms: when it is due, died or ended, or when its entry was created.
    """

    state: State
    local: str
    place: str
    at_ms: int
    fields: tuple[bytes, ...] = ()
    worker: str = ""
    idle_ms: int = 0
    reason: str = ""
    fingerprint: str = ""
    priority: str = "n"


class RowPage(NamedTuple):
    """A page of a list: the cursor of the next page ('' at the end), and the rows."""

    cursor: str
    rows: list[Row]


class Group(NamedTuple):
    """Dead letters with the same error raised in the same place, and the latest of them."""

    fingerprint: str
    size: int
    first_ms: int
    last_ms: int
    last_local: str
    reason: str
    fields: tuple[bytes, ...]


class LockPage(NamedTuple):
    """A page of locks. cursor: of the next page, "0" at the end. rows: key, holder, its state, successor, and
    when the holder was accepted."""

    cursor: str
    rows: list[tuple[str, str, str, str, int]]


def page_locks(t: TypeKeys, cursor: str, limit: int) -> Call[LockPage]:
    """List the locks of a type's unique keys."""
    return build("page_locks", (GROUP, cursor, limit), _lock_page, t)


def _lock_page(reply: list[Reply]) -> LockPage:
    flat = list(map(text, reply[1]))
    rows = [(*flat[n : n + 4], moment(flat[n + 4])) for n in range(0, len(flat), 5)]
    return LockPage(text(reply[0]), rows)  # type: ignore[arg-type]


def follower(t: TypeKeys, digest: bytes) -> Call[str]:
    """Return the local id of the task that follows the holder of a unique key's lock; '' if none does."""
    return Call(None, (t.after,), ("HGET", t.after, digest), lambda r: "" if r is None else text(r))


def page_streams(t: TypeKeys, state: State, after: str, limit: int) -> Call[RowPage]:
    """List ready or running tasks of a type, oldest entry first within each stream."""
    return build("page_streams", (GROUP, state, after, limit), partial(_streamed, state), t)


def _streamed(state: State, reply: list[Reply]) -> RowPage:
    cursor, rows = reply
    return RowPage(text(cursor), [_stream_row(state, *row) for row in rows])


def _stream_row(state: State, place: bytes, worker: bytes, idle_ms: int, fields: list[bytes]) -> Row:
    at = text(place)
    local = _field(fields, b"i", at)
    made = moment(at[1:].partition("-")[0])
    priority = at[0] if at[0] != "s" else _field(fields, b"q", "n")
    return Row(state, local, at, made, tuple(fields), _shown(worker), idle_ms, priority=priority)


def _field(fields: Sequence[bytes], name: bytes, default: str) -> str:
    for n in range(0, len(fields) - 1, 2):
        if fields[n] == name:
            return _shown(fields[n + 1])
    return default


def _shown(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def page_schedule(t: TypeKeys, after: str, limit: int) -> Call[RowPage]:
    """List scheduled tasks of a type, the next due first."""
    args = ("scheduled", after, limit)
    return build("page_set", args, _scheduled, t, set=t.schedule)


def _scheduled(reply: list[Reply]) -> RowPage:
    rows: list[Row] = []
    for place, letter, due, fields in reply[1]:
        at = _shown(place)
        local = _field(fields, b"i", at)
        rows.append(Row("scheduled", local, at, moment(due), tuple(fields), priority=_shown(letter)))
    return RowPage(_shown(reply[0]), rows)


def page_lanes(t: TypeKeys, after: str, limit: int, lane: str = "") -> Call[RowPage]:
    """Parked tasks of a type, or of one lane: lane by lane, in the order in which each goes on."""
    raw = after.encode("utf-8", "surrogateescape")
    return build("lane_tasks", (lane, raw, limit), _parked, t)


def _parked(reply: list[Reply]) -> RowPage:
    rows: list[Row] = []
    for local, letter, _lane, _due, fields in reply[1]:
        at = _shown(local)
        since = moment(at[1:].partition("-")[0])
        rows.append(Row("parked", at, "", since, tuple(fields), priority=_shown(letter)))
    return RowPage(reply[0].decode("utf-8", "surrogateescape"), rows)


def page_dead(t: TypeKeys, after: str, limit: int, fingerprint: str = "") -> Call[RowPage]:
    """List dead letters of a type or of one of its groups, newest first."""
    if fingerprint:
        return build("page_group", (fingerprint, after, limit), _dead, t)
    return build("page_set", ("dead", after, limit), _dead, t, set=t.dead)


def _dead(reply: list[Reply]) -> RowPage:
    rows = [
        Row(
            "dead", _shown(local), "", moment(died), tuple(fields),
            reason=_shown(reason), fingerprint=_shown(fingerprint), priority=_shown(letter),
        )
        for local, letter, died, fields, reason, fingerprint in reply[1]
    ]  # fmt: skip
    return RowPage(_shown(reply[0]), rows)


def page_ended(t: TypeKeys, state: State, after: str, limit: int) -> Call[RowPage]:
    """List cancelled or expired tasks of a type while they are remembered, newest first."""
    args = ("x" if state == "cancelled" else "e", after, limit)
    return build("page_set", args, partial(_ended, state), t, set=t.gone)


def _ended(state: State, reply: list[Reply]) -> RowPage:
    return RowPage(_shown(reply[0]), [Row(state, _shown(row[0]), "", moment(row[2])) for row in reply[1]])


def page_buckets(t: TypeKeys, start: str | None, limit: int) -> Call[list[str]]:
    """List the buckets of completed tasks, newest first, starting at a member: minutes since the epoch, or
    `d` and a number. Members that streamq did not write are returned unchanged, so that the list can continue
    from them."""
    first = "" if start is None else b"=" + start.encode("utf-8", "surrogateescape")
    return build("page_buckets", (first, limit), lambda r: [_exact(member) for member in r], t)


def _exact(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def newest_minute(t: TypeKeys, most: int) -> Call[int | None]:
    """Return the newest minute, `most` at the latest, that has results; None if none has."""
    args = ("ZRANGE", t.buckets, most, "-inf", "BYSCORE", "REV", "LIMIT", 0, 1, "WITHSCORES")
    return Call(None, (t.buckets,), args, lambda r: next((moment(score) for _, score in pairs(r)), None))


def buckets_of(t: TypeKeys, minute: int) -> Call[list[str]]:
    """List the buckets of one minute, newest first, as `page_buckets` does; there is one for each 256 tasks
    that began in the schedule, and at most a thousand are read."""
    args = ("ZRANGE", t.buckets, minute, minute, "BYSCORE", "REV", "LIMIT", 0, 1000)
    return Call(None, (t.buckets,), args, lambda r: [_exact(member) for member in r])


def page_results(keys: Sequence[str], skip: int, limit: int) -> Call[tuple[int, int, list[Row]]]:
    """List completed tasks from the first of these results hashes that has any. Returns the hash's number
    from 1 (0 if all are empty), its number of rows, and the rows."""
    return build("page_results", (skip, limit), _completed, results=keys)


def _completed(reply: list[Reply]) -> tuple[int, int, list[Row]]:
    number, size, rows = reply
    return number, size, [_completed_row(*row) for row in rows]


def _completed_row(local: bytes, length: int, start: bytes) -> Row:
    """Parse a row. `start` is the whole result, or empty if the result is long."""
    if length and not start:
        return Row("completed", _shown(local), "", 0, (b"size", b"%d" % length))
    result, success = stored_result.unpack_result(_shown(local), start)
    fields = (b"size", b"%d" % len(result), b"result", result)
    if success is None:
        return Row("completed", _shown(local), "", 0, fields)
    failed = (b"a", b"%d" % (success.attempt - 1))
    return Row("completed", _shown(local), "", success.at_ms, (*fields, *failed), worker=f"…{success.worker}")


def dead_groups(t: TypeKeys, after: str, limit: int) -> Call[list[Group]]:
    """List groups of dead letters ordered by fingerprint, after `after`."""
    return build("dead_groups", (after, limit), _groups, t)


def _groups(reply: list[Reply]) -> list[Group]:
    return [
        Group(_shown(mark), count, moment(first), moment(last), _shown(local), _shown(reason), tuple(fields))
        for mark, count, first, last, local, reason, fields in reply
    ]


def dead_slices(
    t: TypeKeys, slice_ms: int, slices: int, fingerprints: Sequence[str]
) -> Call[list[tuple[int, ...]]]:
    """Count the dead letters of each group by time slice, oldest slice first."""
    args: list[Arg] = [slice_ms, slices, *fingerprints]
    return build("dead_slices", args, lambda r: [tuple(row) for row in r], t)


def dead_count(t: TypeKeys, since_ms: int, until_ms: int, fingerprint: str = "") -> Call[int]:
    """Count the dead letters of a time span, of one group if `fingerprint` is given."""
    return build("dead_count", (since_ms, until_ms, fingerprint), int, t)


def paused(s: ShardKeys) -> Call[dict[str, bytes]]:
    args = ("HGETALL", s.paused)
    return Call(None, (s.paused,), args, lambda r: {text(k): v for k, v in pairs(r)})


def action_log(s: ShardKeys, limit: int) -> Call[list[str]]:
    """Return the ids of the latest actions in a shard, newest first."""
    args = ("LRANGE", s.action_log, 0, limit - 1)
    return Call(None, (s.action_log,), args, lambda r: [text(row) for row in r])


def actions(s: ShardKeys, ids: Sequence[str]) -> Call[list[tuple[bytes | None, int]]]:
    """Return what was recorded about each action, and how many tasks it affected."""
    args = ("HMGET", s.actions, *(name for one in ids for name in (one, one + "#")))
    return Call(None, (s.actions,), args, lambda r: [(row, number(done or 0)) for row, done in pairs(r)])
