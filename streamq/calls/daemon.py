"""What the daemon asks: promote, reclaim, repair and the rest of the housekeeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from streamq.calls.call import (
    DEFAULT_LEASE_MS,
    DEFAULTS,
    SILENT_MS,
    Call,
    build,
    text,
)
from streamq.keys import GROUP, ShardKeys, TypeKeys, shard_keys
from streamq.model import (
    STREAM_LETTERS,
    Promotion,
    Reclaim,
)
from streamq.namespace import DEFAULT_NAMESPACE, Namespace, namespace_of

HELD_AGAIN_MS: Final = 15_000
"""Ms after which a task that has expired in a worker's hands is looked at again."""


@dataclass(frozen=True, slots=True)
class Survey:
    """One stream at a glance; pending and consumers are -1 where its group is missing."""

    keys: TypeKeys
    letter: str
    length: int
    pending: int
    consumers: int

    @property
    def stream(self) -> str:
        return self.keys.stream(self.letter)


def survey(types: Sequence[TypeKeys]) -> Call[list[Survey]]:
    """Look at all streams of types of one shard."""
    places = [(t, letter) for t in types for letter in STREAM_LETTERS]
    streams = [t.stream(letter) for t, letter in places]
    return build(
        "survey",
        streams,
        (GROUP,),
        lambda r: [Survey(*place, *row) for place, row in zip(places, r, strict=True)],
    )


def _rung(t: TypeKeys) -> tuple[str, str, str]:
    return shard_keys(t.app, t.shard).rung


def promote(t: TypeKeys, limit: int) -> Call[Promotion]:
    keys = (t.schedule, t.index, t.dead, t.letters, t.groups, t.counters, t.high, t.normal, t.low)
    return build("promote", (*keys, *_rung(t)), (limit,), _promoted)


def _promoted(reply: list[int]) -> Promotion:
    moved, due, now_us = reply
    return Promotion(moved, None if due < 0 else due, now_us / 1000)


def next_due(types: Sequence[TypeKeys]) -> Call[list[float | None]]:
    """In how many ms the next task of each of these types of one shard is due; None: nothing scheduled."""
    return _next([t.schedule for t in types])


def next_expiry(types: Sequence[TypeKeys]) -> Call[list[float | None]]:
    """In how many ms the next task of each of these types of one shard expires; None: none will."""
    return _next([t.expiring for t in types])


def _next(keys: Sequence[str]) -> Call[list[float | None]]:
    return build("next_due", keys, (), lambda r: [None if due < 0 else due - r[0] / 1000 for due in r[1]])


def expire(t: TypeKeys, limit: int) -> Call[tuple[int, int]]:
    """End tasks whose time is over; answers how many rows were looked at, and how many tasks expired."""
    keys = (t.expiring, t.schedule, t.index, t.counters, t.cancels, t.waiters, t.gone, *t.streams)
    return build("expire", keys, (GROUP, limit, HELD_AGAIN_MS, t.done_channel), lambda r: (r[0], r[1]))


def reclaim(
    t: TypeKeys, s: ShardKeys, letter: str, cursor: str, limit: int, expected_ms: int
) -> Call[Reclaim]:
    keys = (t.policy, t.stream(letter), t.suspect, t.index, t.dead, t.letters, t.counters)
    args = (GROUP, letter, cursor, limit, expected_ms)
    return build(
        "reclaim",
        (*keys, t.cancels, t.waiters, t.gone, t.groups, s.heartbeats, t.expiring, *s.rung),
        (*args, DEFAULT_LEASE_MS, DEFAULTS.max_lost, t.done_channel),
        partial(_reclaimed, cursor),
    )


def _reclaimed(cursor: str, reply: list[Any]) -> Reclaim:
    if reply[0] == b"skew":
        return Reclaim(cursor, reply[1], skew=True)
    cursor_, now_ms, returned, dead, cancelled, unread = reply
    return Reclaim(cursor_.decode(), now_ms, returned, dead, cancelled, unread=bool(unread))


def restamp(stream: str, cursor: str, limit: int) -> Call[str]:
    return build("restamp", (stream,), (GROUP, cursor, limit), text)


def repair(t: TypeKeys, letter: str, cursor: str, limit: int) -> Call[tuple[str, int]]:
    keys = (t.stream(letter), t.index, t.counters, *_rung(t))
    return build("repair", keys, (GROUP, letter, cursor, limit), lambda r: (text(r[0]), r[1]))


def sweep(stream: str, s: ShardKeys, idle_ms: int, limit: int) -> Call[int]:
    return build("sweep", (stream, s.workers), (GROUP, idle_ms, limit), int)


def trim(types: Sequence[TypeKeys], s: ShardKeys, gone_ms: int, silent_ms: int, limit: int) -> Call[int]:
    """Forget what is old of types of one shard, and of the shard itself."""
    keys = [key for t in types for key in (t.gone, t.waiters, t.buckets)]
    return build("trim", (s.workers, s.heartbeats, *keys), (gone_ms, silent_ms, limit), int)


def attend(daemon: str, details: bytes, namespace: Namespace = DEFAULT_NAMESPACE) -> Call[int]:
    """A daemon's sign of life: it belongs to no app."""
    keys = (namespace.daemons, namespace.daemon_heartbeats)
    return build("beat", keys, (daemon, details, SILENT_MS), int)


def depart(daemon: str, namespace: Namespace = DEFAULT_NAMESPACE) -> Call[int]:
    """Forget a daemon that has ended."""
    keys = (namespace.daemons, namespace.daemon_heartbeats)
    return build("leave", keys, (daemon, GROUP), int)


def close_shard(s: ShardKeys, types: Sequence[TypeKeys], epoch: int) -> Call[bool]:
    """Give up a shard, all of whose types are given; False where it holds something."""
    places = [
        key
        for t in types
        for key in (t.schedule, t.index, t.dead, t.cancels, t.gone, *t.streams, t.waiters, t.expiring)
    ]
    keys = (s.closed, s.types, s.paused, s.workers, s.heartbeats, *places)
    return build("close_shard", keys, (epoch, *(t.type for t in types)), bool)


def lower_known(app: str, known: int, epoch: int) -> Call[bool]:
    """Stop serving the last of `known` shards, which was closed in this epoch."""
    args = (app, known, epoch, shard_keys(app, 0).control)
    return build("lower_known", (namespace_of(app).apps,), args, bool)
