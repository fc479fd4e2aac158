"""One builder for each script: arguments in, a Call out; and how to read the script's reply.

Owns the translation between values and what goes over the wire. Building a Call does no I/O; only
`transport` runs one. No clock, no random number, no handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar, assert_never

from streamq import scripts
from streamq.keys import APPS, GROUP, ShardKeys, TypeKeys
from streamq.model import (
    LETTER,
    PRIORITIES,
    STATES,
    STREAM_LETTERS,
    SUSPECT,
    Accepted,
    Answer,
    BacklogFull,
    Cancelled,
    Completed,
    Counts,
    DeadLetter,
    Died,
    Entry,
    Expired,
    HandedBack,
    Located,
    NewTask,
    Outcome,
    Priority,
    Promotion,
    RateLimited,
    Reclaim,
    Renewal,
    Retried,
    Settlement,
    State,
    TaskId,
)
from streamq.options import TaskOptions

R = TypeVar("R")
Arg = bytes | str | int

WRITER_MEMORY_MS: Final = 3_600_000
"""How long a silent writer's last call is remembered; a resend comes within seconds."""

_DEFAULTS: Final = TaskOptions()
_DEFAULT_LEASE_MS: Final = round(_DEFAULTS.lease * 1000)
_PRIORITY: Final[dict[str, Priority]] = {LETTER[name]: name for name in PRIORITIES}


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """Something to ask the server: a script, or where `script` is None the command in `args`.

    All keys share one hash tag, so `keys[0]` tells the slot. `parse` reads the raw RESP2 reply.
    """

    script: scripts.Script | None
    keys: tuple[str, ...]
    args: tuple[Arg, ...]
    parse: Callable[[Any], R]


def _call(name: str, keys: Sequence[str], args: Sequence[Arg], parse: Callable[[Any], R]) -> Call[R]:
    script = scripts.load(name)
    script.check(keys, args)
    return Call(script, tuple(keys), tuple(args), parse)


# -- producers ---------------------------------------------------------------------------------------


def enqueue(
    t: TypeKeys, s: ShardKeys, writer: str, sequence: int, tasks: Iterable[NewTask]
) -> Call[list[Answer]]:
    """Accept tasks of one type. The same writer and sequence again gets the same answers."""
    args: list[Arg] = [t.type, sequence, WRITER_MEMORY_MS, s.wake]
    for task in tasks:
        args.append(_head(task))
        args.append(task.payload)
        for name, value in task.fields:
            args += (name, value)
    keys = (t.writer(writer), s.types, t.policy, t.rate, *t.streams, t.schedule, t.counters)
    return _call("enqueue", keys, args, _answers)


def _head(task: NewTask) -> str:
    head = LETTER[task.priority]
    if task.due is not None:
        head += f"{'@' if task.absolute else '+'}{task.due}"
    return f"{head}/{len(task.fields)}" if task.fields else head


def _answers(reply: list[Any]) -> list[Answer]:
    return [_answer(raw.decode()) for raw in reply[1:]]


def _answer(text: str) -> Answer:
    if text.startswith("!"):
        return BacklogFull() if text == "!full" else RateLimited(int(text.split()[1]))
    return Accepted(text)


def register(t: TypeKeys, s: ShardKeys, handler: str, policy: dict[str, str]) -> Call[str]:
    """Make a type known with its policy; answers the handler that was registered before, or ''."""
    args = [t.type, handler, *(part for pair in policy.items() for part in pair)]
    return _call("register", (s.types, t.policy), args, _text)


def announce(app: str, details: bytes) -> Call[int]:
    """Make the app known on this server, for daemons and commands."""
    return Call(None, (APPS,), ("HSET", APPS, app, details), int)


def wait(t: TypeKeys, local: str, wait_ms: int) -> Call[int]:
    return _call("wait", (t.waiters,), (local, wait_ms), int)


def cancel(t: TypeKeys, s: ShardKeys, task: TaskId) -> Call[str]:
    """Answers cancelled, requested (a worker has it), dead or unknown."""
    keys = (t.schedule, t.index, t.counters, t.cancels, t.waiters, t.gone, t.dead, *t.streams)
    return _call("cancel", keys, (GROUP, task.local, str(task), s.control, t.done_channel), _text)


# -- workers -----------------------------------------------------------------------------------------


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
    return _call("fetch", [source.stream for source in sources], args, partial(_fetched, sources))


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
    return _call("groups", streams, (GROUP,), int)


def renew(t: TypeKeys, consumer: str, held: Iterable[tuple[str, str]]) -> Call[Renewal]:
    """Renew the leases of deliveries given as (place, local id)."""
    args: list[Arg] = [GROUP, consumer, _DEFAULT_LEASE_MS, *(part for pair in held for part in pair)]
    return _call("renew", (t.policy, t.cancels, *t.streams), args, _renewal)


def _renewal(reply: list[Any]) -> Renewal:
    now, lease, lost, cancelled = reply
    return Renewal(now, lease, tuple(map(_text, lost)), tuple(map(_text, cancelled)))


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
    return _call("settle", (*head, t.gone, *t.streams, *buckets), args, _ones)


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
    return _call("beat", (s.workers, s.heartbeats), (worker, details), int)


def leave(s: ShardKeys, worker: str, streams: Sequence[str]) -> Call[int]:
    return _call("leave", (s.workers, s.heartbeats, *streams), (worker, GROUP), int)


# -- daemon ------------------------------------------------------------------------------------------


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
    return _call(
        "survey",
        streams,
        (GROUP,),
        lambda r: [Survey(*place, *row) for place, row in zip(places, r, strict=True)],
    )


def promote(t: TypeKeys, limit: int) -> Call[Promotion]:
    keys = (t.schedule, t.index, t.dead, t.letters, t.counters, t.high, t.normal, t.low)
    return _call("promote", keys, (limit,), lambda r: Promotion(r[0], None if r[1] < 0 else r[1], r[2]))


def reclaim(
    t: TypeKeys, letter: str, claimer: str, cursor: str, limit: int, expected_ms: int
) -> Call[Reclaim]:
    keys = (t.policy, t.stream(letter), t.suspect, t.index, t.dead, t.letters, t.counters)
    args = (GROUP, letter, claimer, cursor, limit, expected_ms)
    return _call(
        "reclaim",
        (*keys, t.cancels, t.waiters, t.gone),
        (*args, _DEFAULT_LEASE_MS, _DEFAULTS.max_lost, t.done_channel),
        partial(_reclaimed, cursor),
    )


def _reclaimed(cursor: str, reply: list[Any]) -> Reclaim:
    if reply[0] == b"skew":
        return Reclaim(cursor, reply[1], skew=True)
    return Reclaim(reply[0].decode(), *reply[1:])


def restamp(stream: str, cursor: str, limit: int) -> Call[str]:
    return _call("restamp", (stream,), (GROUP, cursor, limit), _text)


def repair(t: TypeKeys, letter: str, cursor: str, limit: int) -> Call[tuple[str, int]]:
    keys = (t.stream(letter), t.index, t.counters)
    return _call("repair", keys, (GROUP, letter, cursor, limit), lambda r: (_text(r[0]), r[1]))


def sweep(stream: str, s: ShardKeys, idle_ms: int, limit: int) -> Call[int]:
    return _call("sweep", (stream, s.workers), (GROUP, idle_ms, limit), int)


def trim(t: TypeKeys, s: ShardKeys, gone_ms: int, silent_ms: int, limit: int) -> Call[int]:
    keys = (t.gone, t.waiters, s.workers, s.heartbeats)
    return _call("trim", keys, (gone_ms, silent_ms, limit), int)


# -- operators ---------------------------------------------------------------------------------------


def requeue(t: TypeKeys, limit: int, until_ms: int, ids: Sequence[str] = ()) -> Call[tuple[int, int]]:
    """Answers how many were requeued and how many that died until then are left."""
    keys = (t.dead, t.letters, t.counters, t.index, t.high, t.normal, t.low)
    return _call("requeue", keys, (limit, until_ms, *ids), tuple)


def purge(t: TypeKeys, limit: int, until_ms: int, ids: Sequence[str] = ()) -> Call[tuple[int, int]]:
    return _call("purge", (t.dead, t.letters, t.counters), (limit, until_ms, *ids), tuple)


# -- questions ---------------------------------------------------------------------------------------


def now() -> Call[int]:
    """The server's clock, ms."""
    return Call(None, (), ("TIME",), lambda r: int(r[0]) * 1000 + int(r[1]) // 1000)


def apps() -> Call[dict[str, bytes]]:
    return Call(None, (APPS,), ("HGETALL", APPS), lambda r: {k.decode(): v for k, v in _pairs(r)})


def types(s: ShardKeys) -> Call[list[str]]:
    return Call(None, (s.types,), ("SMEMBERS", s.types), lambda r: sorted(map(_text, r)))


def policy(t: TypeKeys) -> Call[dict[str, str]]:
    return Call(
        None, (t.policy,), ("HGETALL", t.policy), lambda r: {_text(k): _text(v) for k, v in _pairs(r)}
    )


def workers(s: ShardKeys) -> Call[list[tuple[str, int]]]:
    """Names and last signs of life (ms) of the workers, oldest first."""
    args = ("ZRANGE", s.workers, 0, -1, "WITHSCORES")
    return Call(None, (s.workers,), args, lambda r: [(_text(k), int(float(v))) for k, v in _pairs(r)])


def heartbeats(s: ShardKeys) -> Call[dict[str, bytes]]:
    args = ("HGETALL", s.heartbeats)
    return Call(None, (s.heartbeats,), args, lambda r: {_text(k): v for k, v in _pairs(r)})


def counts(t: TypeKeys) -> Call[Counts]:
    keys = (t.schedule, t.dead, t.counters, *t.streams)
    return _call("counts", keys, (GROUP,), _counts)


def _counts(reply: list[Any]) -> Counts:
    now_ms, ready, running, scheduled, dead, suspect, oldest, due, counters = reply
    return Counts(
        now_ms=now_ms,
        ready=ready,
        running=running,
        scheduled=scheduled,
        dead=dead,
        suspect=suspect,
        oldest_ready_ms=None if oldest < 0 else oldest,
        next_due_ms=None if due < 0 else due,
        counters={_text(k): int(v) for k, v in _pairs(counters) if k != b"sequence"},
    )


def locate(t: TypeKeys, local: str) -> Call[Located]:
    keys = (t.schedule, t.index, t.dead, t.letters, t.gone, t.results(local), t.cancels, *t.streams)
    return _call("locate", keys, (GROUP, local), _located)


def _located(reply: list[Any]) -> Located:
    now, state, detail, fields, result = reply
    return Located(
        state=_state(_text(state)),
        now_ms=now,
        detail={_text(k): v.decode("utf-8", "replace") for k, v in _pairs(detail)},
        fields=tuple(fields),
        result=result,
    )


def _state(name: str) -> State:
    return next(state for state in STATES if state == name)


def dead_page(t: TypeKeys, start: int, limit: int) -> Call[list[DeadLetter]]:
    """A page of dead letters, newest first."""
    return _call("dead_page", (t.dead, t.letters), (start, limit), partial(_letters, t))


def _letters(t: TypeKeys, reply: list[Any]) -> list[DeadLetter]:
    return [
        DeadLetter(
            id=TaskId(t.type, t.shard, local.decode("utf-8", "replace")),
            died_ms=int(died),
            reason=reason.decode("utf-8", "replace"),
            priority=_PRIORITY.get(letter.decode("utf-8", "replace"), "normal"),
            fields=tuple(fields),
        )
        for local, died, reason, letter, fields in reply
    ]


Problems = list[tuple[str, str]]


def audit_stream(t: TypeKeys, letter: str, cursor: str, limit: int) -> Call[tuple[str, int, int, Problems]]:
    """Answers the next cursor ('' at the end), entries checked, moved tasks seen, problems."""
    keys, args = (t.stream(letter), t.index), (GROUP, letter, cursor, limit)
    return _call("audit_stream", keys, args, lambda r: (_text(r[0]), r[1], r[2], _problems(r[3])))


def audit_pending(t: TypeKeys, letter: str, cursor: str, limit: int) -> Call[tuple[str, int, Problems]]:
    args = (GROUP, letter, cursor, limit)
    return _call("audit_pending", (t.stream(letter),), args, lambda r: (_text(r[0]), r[1], _problems(r[2])))


def audit_schedule(t: TypeKeys, start: int, limit: int) -> Call[tuple[int, int, Problems]]:
    keys = (t.schedule, t.index)
    return _call("audit_schedule", keys, (start, limit), lambda r: (r[0], r[1], _problems(r[2])))


def audit_dead(t: TypeKeys, start: int, limit: int) -> Call[tuple[int, Problems]]:
    keys = (t.dead, t.letters, t.index)
    return _call("audit_dead", keys, (start, limit), lambda r: (r[0], _problems(r[1])))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Rows in the structures that must agree with one another."""

    index: int
    dead: int
    letters: int
    cancels: int
    waiters: int
    gone: int


def sizes(t: TypeKeys) -> Call[Sizes]:
    keys = (t.index, t.dead, t.letters, t.cancels, t.waiters, t.gone)
    return _call("sizes", keys, (), lambda r: Sizes(*r))


def all_streams(t: TypeKeys) -> list[tuple[str, str]]:
    """(letter, stream) of a type's streams."""
    return list(zip(STREAM_LETTERS, t.streams, strict=True))


def _text(raw: bytes) -> str:
    return raw.decode()


def _pairs(flat: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _problems(flat: list[Any]) -> Problems:
    return [(_text(name), where.decode("utf-8", "replace")) for name, where in _pairs(flat)]
