"""What workers ask: fetch, block, renew, settle, and signs of life."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, assert_never

from streamq.calls.call import (
    DEFAULT_LEASE_MS,
    WRITER_MEMORY_MS,
    Arg,
    Call,
    build,
    text,
)
from streamq.keys import GROUP, ShardKeys, TypeKeys
from streamq.model import (
    SUSPECT,
    Cancelled,
    Completed,
    Died,
    Entry,
    Expired,
    HandedBack,
    Outcome,
    Renewal,
    Retried,
    Settlement,
)


@dataclass(frozen=True, slots=True)
class Source:
    """One stream to read from: whose it is, its letter, and the most to take of it in one read."""

    keys: TypeKeys
    letter: str
    limit: int

    @property
    def stream(self) -> str:
        return self.keys.stream(self.letter)


FetchedByType = tuple[int, list[tuple[Source, tuple[Entry, ...]]]]


def fetch(consumer: str, budget: int, sources: Sequence[Source]) -> Call[FetchedByType]:
    """Take up to `budget` tasks, in the order of the sources; those of suspects must come first."""
    suspects = sum(source.letter == SUSPECT for source in sources)
    args: list[Arg] = [GROUP, consumer, budget, suspects, *(source.limit for source in sources)]
    return build("fetch", [source.stream for source in sources], args, partial(_fetched, sources))


def _fetched(sources: Sequence[Source], reply: list[Any]) -> FetchedByType:
    now, found = reply
    return now, [(sources[n - 1], _entries(sources[n - 1].letter, rows)) for n, rows in found]


def _entries(letter: str, rows: list[Any]) -> tuple[Entry, ...]:
    return tuple(
        Entry(letter, entry.decode(), None if fields is None else tuple(fields)) for entry, fields in rows
    )


def block(consumer: str, block_ms: int, sources: Sequence[Source]) -> Call[FetchedByType]:
    """Wait for a task: the plain blocking read, one entry of a stream (scripts cannot block)."""
    streams = [source.stream for source in sources]
    head = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "BLOCK", block_ms, "STREAMS")
    by_name = {source.stream.encode(): source for source in sources}
    return Call(None, tuple(streams), (*head, *streams, *(">" for _ in streams)), partial(_blocked, by_name))


def _blocked(by_name: dict[bytes, Source], reply: list[Any] | None) -> FetchedByType:
    found = [(by_name[name], _entries(by_name[name].letter, rows)) for name, rows in reply or []]
    return 0, found


def groups(streams: Sequence[str]) -> Call[int]:
    return build("groups", streams, (GROUP,), int)


def renew(t: TypeKeys, consumer: str, held: Iterable[tuple[str, str]]) -> Call[Renewal]:
    """Renew the leases of deliveries given as (place, local id)."""
    args: list[Arg] = [GROUP, consumer, DEFAULT_LEASE_MS, *(part for pair in held for part in pair)]
    return build("renew", (t.policy, t.cancels, *t.streams), args, _renewal)


def _renewal(reply: list[Any]) -> Renewal:
    now, lease, lost, cancelled = reply
    return Renewal(now, lease, tuple(map(text, lost)), tuple(map(text, cancelled)))


def pending(t: TypeKeys, letter: str, consumer: str, limit: int) -> Call[list[str]]:
    """The places of what this consumer holds in one stream."""
    stream = t.stream(letter)
    args = ("XPENDING", stream, GROUP, "-", "+", limit, consumer)
    return Call(None, (stream,), args, lambda reply: [letter + row[0].decode() for row in reply])


def settle(
    t: TypeKeys, s: ShardKeys, writer: str, sequence: int, settlements: Sequence[Settlement]
) -> Call[list[bool]]:
    """End deliveries; answers for each whether this call (or its first sending) settled it."""
    buckets: dict[str, int] = {}
    items: list[Arg] = []
    for settlement in settlements:
        items += _item(t, settlement, buckets)
    head = (t.writer(writer), t.schedule, t.index, t.dead, t.letters, t.counters, t.cancels, t.waiters)
    args = (t.type, sequence, WRITER_MEMORY_MS, GROUP, t.done_channel, s.wake, *buckets.values(), *items)
    return build("settle", (*head, t.gone, *t.streams, *buckets), args, _ones)


def _item(t: TypeKeys, settlement: Settlement, buckets: dict[str, int]) -> tuple[Arg, ...]:
    op, a, b = _op(settlement.outcome)
    if isinstance(settlement.outcome, Completed) and settlement.outcome.retention_ms > 0:
        bucket = t.results(settlement.local)
        buckets[bucket] = max(buckets.get(bucket, 0), settlement.outcome.retention_ms)
        a = list(buckets).index(bucket) + 1
    local = "" if settlement.local == settlement.place else settlement.local
    return (op, settlement.place, local, a, b)


def _op(outcome: Outcome) -> tuple[str, Arg, Arg]:
    match outcome:
        case Completed(result):
            return "C", "", result
        case Retried(delay_ms, failures):
            return "R", delay_ms, failures
        case Died(reason, failures, started):
            return "D" if started else "d", reason, failures
        case Cancelled(started):
            return "X" if started else "x", "", ""
        case Expired():
            return "e", "", ""
        case HandedBack(started):
            return "B" if started else "b", "", ""
    assert_never(outcome)


def _ones(reply: bytes) -> list[bool]:
    return [mark == 0x31 for mark in reply]


def beat(s: ShardKeys, worker: str, details: bytes) -> Call[int]:
    return build("beat", (s.workers, s.heartbeats), (worker, details), int)


def leave(s: ShardKeys, worker: str, streams: Sequence[str]) -> Call[int]:
    return build("leave", (s.workers, s.heartbeats, *streams), (worker, GROUP), int)
