"""Build a worker's calls: fetch, block, renew, settle, heartbeat.

Owns the order of settle's arguments and the parsing of its reply. Decides nothing about a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, groupby
from typing import Final, NamedTuple, assert_never

from streamq import scripts
from streamq.calls import effect
from streamq.calls.call import (
    DEFAULT_LEASE_MS,
    FLOW_LIFE_MS,
    SILENT_MS,
    WRITER_MEMORY_MS,
    Arg,
    Call,
    Reply,
    build,
    text,
)
from streamq.calls.follow import FollowUps
from streamq.keys import GROUP, ShardKeys, TypeKeys
from streamq.model.delivery import Entry
from streamq.model.effect import NodeResult
from streamq.model.outcome import (
    Cancelled,
    Completed,
    Died,
    Expired,
    HandedBack,
    Outcome,
    Retried,
    Settlement,
)
from streamq.model.reply import Orders, Renewal
from streamq.model.task import STREAM_LETTERS, SUSPECT

_new: Final = tuple.__new__
SOON_MS, SELDOM_MS, DOORBELL_MS = 1_000, 3_000, 3_600_000
"""SOON and SELDOM: ms between two searches for ready tasks that did not ring the doorbell, while some are
found and otherwise. DOORBELL: ms for which tasks keep ringing after the last worker that serves many
types."""


class Source(NamedTuple):
    """One stream to read from: its type's keys, its letter, and the maximum to take in one read."""

    keys: TypeKeys
    letter: str
    limit: int

    @property
    def stream(self) -> str:
        return self.keys.stream(self.letter)


FetchedByType = tuple[int, list[tuple[Source, list[Entry]]]]


def fetch(
    consumer: str, budget: int, sources: Sequence[Source], *, alone: bool = False, rings: bool = False
) -> Call[FetchedByType]:
    """Take up to `budget` tasks, in the order of the sources. Consecutive sources of one letter share the
    budget. Sources of suspects must come first. `alone`: take no suspect. `rings`: the sources are what
    `ready` listed; those that are empty are removed from there."""
    tiers = [(letter, len(list(group))) for letter, group in groupby(source.letter for source in sources)]
    if not tiers or tiers[0][0] != SUSPECT:
        tiers.insert(0, (SUSPECT, 0))
    shape = ",".join(str(size) for _, size in tiers)
    limits = [source.limit for source in sources]
    args: list[Arg] = [GROUP, consumer, budget, int(alone), int(rings), shape, *limits]
    streams = [source.stream for source in sources]
    return build("fetch", args, partial(_fetched, sources), sources[0].keys, streams=streams)


def _fetched(sources: Sequence[Source], reply: list[Reply]) -> FetchedByType:
    now, found = reply
    return now, [(sources[n - 1], _entries(sources[n - 1].letter, rows)) for n, rows in found]


def _entries(letter: str, rows: list[Reply]) -> list[Entry]:
    # Made without the function that names the fields, which would take twice as long.
    return [_new(Entry, (letter, entry.decode(), fields)) for entry, fields in rows]


def block(consumer: str, block_ms: int, sources: Sequence[Source]) -> Call[FetchedByType]:
    """Wait for a task with the plain blocking read, one entry per stream (scripts cannot block)."""
    streams = [source.stream for source in sources]
    head = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "BLOCK", block_ms, "STREAMS")
    by_name = {source.stream.encode(): source for source in sources}
    return Call(
        None, tuple(streams), (*head, *streams, *(">" for _ in streams)), partial(_plainly_read, by_name)
    )


def _plainly_read(by_name: dict[bytes, Source], reply: list[Reply] | None) -> FetchedByType:
    found = [(by_name[name], _entries(by_name[name].letter, rows)) for name, rows in reply or []]
    return 0, found


def read(consumer: str, source: Source) -> Call[FetchedByType]:
    """Take up to the limit from one stream, with a plain read that does not wait."""
    head = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", source.limit, "STREAMS")
    by_name = {source.stream.encode(): source}
    return Call(None, (source.stream,), (*head, source.stream, ">"), partial(_plainly_read, by_name))


def may_read(t: TypeKeys, consumer: str) -> Call[bool]:
    """Check the right to read, by reading what this consumer holds of a stream: nothing yet. Takes no
    task."""
    args = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", 1, "STREAMS", t.normal, "0")
    return Call(None, (t.normal,), args, lambda _: True)


def rights(t: TypeKeys, commands: Sequence[str]) -> Call[list[str]]:
    """Return which of these commands, each as its words, the user may not send; with a `?` in front those
    that the server does not have. None of them is sent."""
    return build("rights", commands, lambda reply: list(map(text, reply)), key=t.normal)


def listed(s: ShardKeys) -> Call[list[bytes]]:
    """Return the streams that have ready tasks, in the order in which to serve them; see `muster`."""
    return Call(None, (s.ready,), ("ZRANGE", s.ready, 0, -1), list)


def answer_bell(s: ShardKeys, seconds: float) -> Call[bytes | None]:
    """Wait until a stream has ready tasks for which no worker was woken."""
    return Call(
        None, (s.bell,), ("BZPOPMIN", s.bell, f"{seconds:.3f}"), lambda reply: reply[1] if reply else None
    )


def ring_again(s: ShardKeys, stream: bytes) -> Call[int]:
    """Have another worker woken for a stream that this worker does not read."""
    return Call(None, (s.bell,), ("ZADD", s.bell, "NX", 0, stream), int)


def muster(s: ShardKeys, streams: Sequence[str]) -> Call[int]:
    """Ring for those of these streams that have ready tasks and did not ring. Returns how many."""
    return build("muster", (GROUP,), int, s=s, streams=streams)


def watch(s: ShardKeys, *, found: bool, force: bool, seldom_ms: int = SELDOM_MS) -> Call[int]:
    """Keep the doorbell in use. Returns 0 if this worker is to muster now, else the ms until one is."""
    args = (SOON_MS, seldom_ms, DOORBELL_MS, int(found), int(force))
    return build("watch", args, int, s=s)


def groups(streams: Sequence[str]) -> Call[int]:
    return build("groups", (GROUP,), int, streams=streams)


def renew(t: TypeKeys, consumer: str, held: Iterable[tuple[str, str]]) -> Call[Renewal]:
    """Renew the leases of deliveries given as (place, local id)."""
    deliveries = (part for pair in held for part in pair)
    args: list[Arg] = [GROUP, consumer, DEFAULT_LEASE_MS, t.done_channel, *deliveries]
    return build("renew", args, _renewal, t)


def _renewal(reply: list[Reply]) -> Renewal:
    now, lease, fenced, cancelled = reply
    return Renewal(now, lease, tuple(map(text, fenced)), tuple(map(text, cancelled)))


def pending(t: TypeKeys, letter: str, consumer: str, limit: int) -> Call[list[str]]:
    """Return the places of what this consumer holds in one stream."""
    stream = t.stream(letter)
    args = ("XPENDING", stream, GROUP, "-", "+", limit, consumer)
    return Call(None, (stream,), args, lambda reply: [letter + row[0].decode() for row in reply])


def settle(
    t: TypeKeys, s: ShardKeys, writer: str, sequence: int, settlements: Sequence[Settlement]
) -> Call[list[bool]]:
    """End deliveries. Returns for each whether this call (or its first sending) settled it."""
    batch = _Batch(t, s)
    for n, settlement in enumerate(settlements):
        batch.add(n, settlement)
    args = (t.type, sequence, WRITER_MEMORY_MS, GROUP, t.done_channel, s.wake, *batch.args())
    script = scripts.load("settle_rich" if batch.rich else "settle")
    # Like `build`, without resolving and counting on each call what is correct by construction.
    keys = (t.writer(writer), *script.attributes_of(t, s), *batch.buckets, *batch.follow_ups.keys)
    return _new(Call, (script, keys, args, batch.answers, None))


class _Batch:
    """Sort settlements as the script expects them, and map its reply back to their order."""

    def __init__(self, t: TypeKeys, s: ShardKeys) -> None:
        self._keys, self._shard = t, s
        self.follow_ups = FollowUps(t, s)
        self._plain: dict[str, list[Arg]] = {letter: [] for letter in STREAM_LETTERS}
        self._order: dict[str, list[int]] = {letter: [] for letter in STREAM_LETTERS}
        self._holders = _Holders()
        self._pairs: list[list[Arg]] = []
        self._items: list[Arg] = []
        self._items_order: list[int] = []
        self._numbers: dict[str, int] = {}
        self._lives: list[int] = []
        self.buckets: list[str] = []
        self.rich = False

    def add(self, n: int, settlement: Settlement) -> None:
        place, local, outcome, rich, effects, claims = settlement
        if type(outcome) is not Completed or local != place or rich or effects:
            self.rich = self.rich or rich or effects != ()
            if type(outcome) is Completed and len(claims) > 1 and not effects:  # b"\x90": not read
                self._holders.add(n, settlement)
                self._keep(local, outcome)
                return
            self._items += self._item(settlement)
            self._items_order.append(n)
            if effects:
                self.follow_ups.add(effects)
            return
        letter = place[0]
        self._plain[letter].append(place[1:])
        self._order[letter].append(n)
        result, retention_ms = outcome
        if retention_ms:  # not by `_keep`: a call less for each task
            self._pairs[self._bucket(local, retention_ms)] += (local, result)

    def _keep(self, local: str, outcome: Completed) -> None:
        result, retention_ms = outcome
        if retention_ms:
            self._pairs[self._bucket(local, retention_ms)] += (local, result)

    def _bucket(self, local: str, retention_ms: int) -> int:
        """Return the index of a task's results key."""
        # The first letters of an id encode its second: most ids of a batch share them.
        number = self._numbers.get(local[:11])
        if number is None:
            number = self._new_bucket(local)
        self._lives[number] = max(self._lives[number], retention_ms)
        return number

    def _new_bucket(self, local: str) -> int:
        number = self._number_of(self._keys.results(local))
        if local[0] != "d" and local[14:15] == "-":
            self._numbers[local[:11]] = number
        return number

    def _number_of(self, name: str) -> int:
        if name not in self.buckets:
            self.buckets.append(name)
            self._lives.append(0)
            self._pairs.append([])
        return self.buckets.index(name)

    def _node_results(self, node: NodeResult) -> int:
        number = self._number_of(self._shard.flow_results(node.flow, node.node))
        self._lives[number] = FLOW_LIFE_MS
        return number + 1

    def _item(self, settlement: Settlement) -> tuple[Arg, ...]:
        op, a, b = _op(settlement.outcome)
        if isinstance(settlement.outcome, Completed) and settlement.outcome.retention_ms > 0:
            a = self._bucket(settlement.local, settlement.outcome.retention_ms) + 1
        if settlement.effects and (payload := effect.payload(settlement.effects)) is not None:
            b = payload
        local = "" if settlement.local == settlement.place else settlement.local
        return (op + effect.written(settlement.effects, self._node_results), settlement.place, local, a, b)

    def args(self) -> Iterable[Arg]:
        """Return shape, lifetimes, ids, results, those with claims, items, follow-ups."""
        sizes = [len(ids) for ids in self._plain.values()] + [len(pairs) // 2 for pairs in self._pairs]
        ids = chain.from_iterable(self._plain.values())
        results = chain.from_iterable(self._pairs)
        more = self.follow_ups
        shape = ",".join(map(str, sizes)) + self._holders.shape() + more.shape
        return chain((shape,), self._lives, ids, results, self._holders.args(), self._items, more.args)

    def answers(self, reply: bytes) -> list[bool]:
        order = [*chain.from_iterable(self._order.values()), *self._holders.order(), *self._items_order]
        if reply == b"all":
            return [True] * len(order)
        marks = [False] * len(order)
        for n, mark in zip(order, reply, strict=True):
            marks[n] = mark == 0x31
        return marks


class _Holders:
    """Completions of tasks with claims, by stream."""

    def __init__(self) -> None:
        self._found: dict[str, list[tuple[int, Settlement]]] = {}

    def add(self, n: int, settlement: Settlement) -> None:
        self._found.setdefault(settlement.place[0], []).append((n, settlement))

    def _all(self) -> Iterable[tuple[int, Settlement]]:
        return chain.from_iterable(self._found.get(letter, ()) for letter in STREAM_LETTERS)

    def shape(self) -> str:
        if not self._found:
            return ""
        return ";" + ",".join(str(len(self._found.get(letter, ()))) for letter in STREAM_LETTERS)

    def args(self) -> Iterable[Arg]:
        yield from (one.place[1:] for _, one in self._all())
        for _, one in self._all():
            yield "" if one.local == one.place else one.local
            yield one.claims

    def order(self) -> Iterable[int]:
        return (n for n, _ in self._all())


def _op(outcome: Outcome) -> tuple[str, Arg, Arg]:
    match outcome:
        case Completed(result):
            return "C", "", result
        case Retried(delay_ms, failures):
            return "R", delay_ms, failures
        case Died(reason, failures, started, fingerprint):
            return "D" if started else "d", f"{reason}/{fingerprint}", failures
        case Cancelled(started):
            return "X" if started else "x", "", ""
        case Expired():
            return "e", "", ""
        case HandedBack(started, delay_ms, times):
            return "B" if started else "b", delay_ms or "", times if delay_ms else ""
    assert_never(outcome)


def beat(s: ShardKeys, worker: str, details: bytes) -> Call[int]:
    return build("beat", (worker, details, SILENT_MS), int, beats=s.workers, details=s.heartbeats)


def orders(s: ShardKeys, worker: str) -> Call[Orders]:
    """Return what this worker is asked to do in a shard."""
    return build(
        "orders", (worker,), lambda r: Orders(frozenset(map(text, r[0])), bool(r[1]), bool(r[2])), s=s
    )


def publish(channel: str, message: bytes) -> Call[int]:
    """Publish a message on a channel. Returns how many subscribers received it (on this server)."""
    return Call(None, (channel,), ("PUBLISH", channel, message), int)


def leave(s: ShardKeys, worker: str, streams: Sequence[str]) -> Call[int]:
    return build("leave", (worker, GROUP), int, beats=s.workers, details=s.heartbeats, streams=streams)
