"""Build the daemon's calls: promote, reclaim, repair and the rest of the housekeeping.

Owns what the daemon sends. Decides nothing: when and how often is up to `daemon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from functools import partial
from typing import Final, NamedTuple

from streamq.calls.call import (
    DEFAULT_LEASE_MS,
    DEFAULTS,
    SILENT_MS,
    Call,
    Reply,
    build,
    text,
)
from streamq.keys import GROUP, SUCCESSOR_DUE_MS, ShardKeys, TypeKeys, shard_keys
from streamq.model.reply import Promotion, Reclaim
from streamq.model.task import STREAM_LETTERS
from streamq.namespace import DEFAULT_NAMESPACE, Namespace, namespace_of

HELD_AGAIN_MS: Final = 15_000
"""Ms after which a task that expired while a worker holds it is checked again."""


class Lanes(IntFlag):
    """Whether a type has lanes, whether what they hold is to be counted anew, and whether rules of the type
    are to be enforced: see `enforce`."""

    NONE = 0
    THERE = 1
    UNCOUNTED = 2
    UNENFORCED = 4


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of one stream; pending and consumers are -1 if its group is missing."""

    keys: TypeKeys
    letter: str
    length: int
    pending: int
    consumers: int

    @property
    def stream(self) -> str:
        return self.keys.stream(self.letter)


def survey(types: Sequence[TypeKeys]) -> Call[list[Survey]]:
    """Return the state of all streams of types of one shard."""
    places = [(t, letter) for t in types for letter in STREAM_LETTERS]
    streams = [t.stream(letter) for t, letter in places]
    return build(
        "survey",
        (GROUP,),
        lambda r: [Survey(*place, *row) for place, row in zip(places, r, strict=True)],
        streams=streams,
    )


def promote(t: TypeKeys, limit: int, *, rich: bool = False) -> Call[Promotion]:
    """Move due tasks to their streams. rich: the type has lanes: these tasks ask theirs, and who may go by
    now is admitted."""
    return build("promote_rich" if rich else "promote", (limit,), _promoted, t)


def _promoted(reply: list[int]) -> Promotion:
    moved, due, now_us = reply
    return Promotion(moved, due if 0 <= due < SUCCESSOR_DUE_MS else None, now_us / 1000)


def next_promotion(types: Sequence[TypeKeys]) -> Call[tuple[list[float | None], list[Lanes]]]:
    """Return the ms until each of these types of one shard needs a promotion, because a scheduled task is due
    or a lane may go on (None: nothing waits for a time); and whether the type has lanes."""
    return build("next_promotion", (), _next_promoted, each=[(t, {}) for t in types])


def _next_promoted(reply: tuple[int, list[int], list[int]]) -> tuple[list[float | None], list[Lanes]]:
    now_us, due, lanes = reply
    left = [one - now_us / 1000 if 0 <= one < SUCCESSOR_DUE_MS else None for one in due]
    return left, [Lanes(one) for one in lanes]


def next_expiry(types: Sequence[TypeKeys]) -> Call[list[float | None]]:
    """Return the ms until the next task of each of these types of one shard expires; None: none will."""
    return _next([t.expiring for t in types])


def _next(keys: Sequence[str]) -> Call[list[float | None]]:
    return build(
        "next_due",
        (),
        lambda r: [due - r[0] / 1000 if 0 <= due < SUCCESSOR_DUE_MS else None for due in r[1]],
        due_sets=keys,
    )


def heads(due_sets: Sequence[str]) -> Call[list[int | None]]:
    """Return when the first row of each of these keys is due, in ms since the epoch; None: none is."""
    return build(
        "next_due",
        (),
        lambda r: [due if 0 <= due < SUCCESSOR_DUE_MS else None for due in r[1]],
        due_sets=due_sets,
    )


class FirstRows(NamedTuple):
    """The server's time, and the time of the first row of each key, both in ms; None: it has no row."""

    now_ms: int
    times: tuple[int | None, ...]


def first_rows(sets: Sequence[str]) -> Call[FirstRows]:
    """Look at the first row of each of these sorted sets. A key that is none has a row of now."""
    return build(
        "next_due",
        (),
        lambda r: FirstRows(int(r[0]) // 1000, tuple(int(one) if one >= 0 else None for one in r[1])),
        due_sets=sets,
    )


def _wake(t: TypeKeys) -> str:
    return shard_keys(t.app, t.shard).wake


def expire(t: TypeKeys, limit: int) -> Call[tuple[int, int]]:
    """End tasks that have expired. Returns how many rows were checked, and how many tasks expired."""
    args = (GROUP, limit, HELD_AGAIN_MS, t.done_channel, t.type, _wake(t))
    return build("expire", args, lambda r: (r[0], r[1]), t)


def reclaim(
    t: TypeKeys, s: ShardKeys, letter: str, cursor: str, limit: int, expected_ms: int
) -> Call[Reclaim]:
    args = (GROUP, letter, cursor, limit, expected_ms)
    return build(
        "reclaim",
        (*args, DEFAULT_LEASE_MS, DEFAULTS.max_lost, t.done_channel, t.type, s.wake),
        partial(_reclaimed, cursor),
        t,
        s,
        stream=t.stream(letter),
    )


def _reclaimed(cursor: str, reply: list[Reply]) -> Reclaim:
    if reply[0] == b"skew":
        return Reclaim(cursor, reply[1], skew=True)
    cursor_, now_ms, returned, dead, cancelled, unread = reply
    return Reclaim(cursor_.decode(), now_ms, returned, dead, cancelled, unread=bool(unread))


def restamp(stream: str, cursor: str, limit: int) -> Call[str]:
    return build("restamp", (GROUP, cursor, limit), text, stream=stream)


def repair(t: TypeKeys, letter: str, cursor: str, limit: int) -> Call[tuple[str, int]]:
    args = (GROUP, letter, cursor, limit)
    return build("repair", args, lambda r: (text(r[0]), r[1]), t, stream=t.stream(letter))


def sweep(stream: str, s: ShardKeys, idle_ms: int, limit: int) -> Call[int]:
    return build("sweep", (GROUP, idle_ms, limit), int, s=s, stream=stream)


def trim(types: Sequence[TypeKeys], s: ShardKeys, gone_ms: int, silent_ms: int, limit: int) -> Call[int]:
    """Remove old rows of types of one shard, and of the shard itself."""
    return build("trim", (gone_ms, silent_ms, limit), int, s=s, each=[(t, {}) for t in types])


def attend(daemon: str, details: bytes, namespace: Namespace = DEFAULT_NAMESPACE) -> Call[int]:
    """Store a daemon's heartbeat. A daemon belongs to no app."""
    args = (daemon, details, SILENT_MS)
    return build("beat", args, int, beats=namespace.daemons, details=namespace.daemon_heartbeats)


def depart(daemon: str, namespace: Namespace = DEFAULT_NAMESPACE) -> Call[int]:
    """Remove a daemon that has ended."""
    beats, details = namespace.daemons, namespace.daemon_heartbeats
    return build("leave", (daemon, GROUP), int, beats=beats, details=details, streams=())


def close_shard(s: ShardKeys, types: Sequence[TypeKeys], epoch: int) -> Call[bool]:
    """Close a shard, given all of its types. Returns False if the shard still holds something."""
    names = [t.type for t in types]
    return build("close_shard", (epoch, *names), bool, s=s, each=[(t, {}) for t in types])


def lower_known(app: str, known: int, epoch: int) -> Call[bool]:
    """Stop serving the last of `known` shards, which was closed in this epoch."""
    args = (app, known, epoch, shard_keys(app, 0).control)
    return build("lower_known", args, bool, apps=namespace_of(app).apps)
