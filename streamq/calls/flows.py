"""Build the calls of flows: store the parts of one, start it, take what has ended, release nodes, read.

Owns what is sent and how replies are parsed. Every script may be sent twice: it changes nothing then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from streamq.calls.call import FLOW_LIFE_MS, Arg, Call, Reply, build, number, pairs, text
from streamq.calls.producer import NO_NOTE
from streamq.keys import ShardKeys, TypeKeys
from streamq.model.reply import Note

BUILD_MS: Final = 3_600_000
"""Ms after which the parts of a flow expire that was never started."""
LOOK_MS: Final = 600_000
"""Ms after its start at which a daemon looks after a flow."""
MOST: Final = 100_000
"""The most nodes of a flow, the children of maps included."""

MOST_UNREAD, MOST_UNREAD_BYTES = 100, 1_048_576
"""The most signals of one name that a flow has not taken, and their bytes."""

Mark = Literal["cancel", "drop", "fail", "retry"]


class Item(NamedTuple):
    """What a node is to do: its number in its page's key, and the values: the payload alone for a child of a
    map; head, payload, needs, lane, cost and fields for others."""

    number: int
    values: Sequence[Arg]


class Ready(NamedTuple):
    """A node that may run. map: of which it is a child, -1 for none. cut: it is a map whose list is to be
    cut; grown: its children are. lost: another node has won against it, its task is to be cancelled."""

    number: int
    type: str
    map: int
    cut: bool
    grown: bool = False
    lost: bool = False


class Advanced(NamedTuple):
    """state: '' if there is no such flow. more: there are more nodes to look at. awaited: it has ended, and a
    task waits for that."""

    state: str
    more: bool
    ready: list[Ready]
    awaited: bool = False


class InboxRow(NamedTuple):
    """What waits in the inbox for a flow. what: a node's number and how it ended, or `look`."""

    flow: str
    what: str


def build_part(
    s: ShardKeys, flow: str, page: str, record: Mapping[str, Arg], items: Iterable[Item], *, running: bool
) -> Call[bool]:
    """Store fields of the record and items of a page. running: of a flow that runs, else of one that is being
    built. Returns whether it is in that state."""
    life = FLOW_LIFE_MS if running else BUILD_MS
    args = ("running" if running else "building", life, *_part(record, items))
    return build("flow_build", args, bool, s=s, flow=s.flow(flow), flow_items=s.flow_items(flow, page))


def _part(record: Mapping[str, Arg], items: Iterable[Item]) -> list[Arg]:
    args: list[Arg] = [len(record)]
    for name, value in record.items():
        args += (name, value)
    for item in items:
        args += (item.number, len(item.values), *item.values)
    return args


class Committed(NamedTuple):
    """started, lost (the parts have expired), closed (the shard was retired), or before: `flow` has the
    key."""

    answer: str
    flow: str


def commit(
    s: ShardKeys, flow: str, key: str, gone: str, nodes: int, pages: Sequence[str] = (), letters: str = ""
) -> Call[Committed]:
    """Start a flow. gone: a flow that had the key and is no longer stored. pages: the keys of its items.
    letters: the states of its first nodes, if they do not all wait."""
    args = (flow, key, gone, nodes, FLOW_LIFE_MS, LOOK_MS, letters)
    return build("flow_commit", args, _committed, s=s, **_record(s, flow), flow_pages=pages)


def _committed(reply: list[Reply]) -> Committed:
    return Committed(text(reply[0]), text(reply[1]) if len(reply) > 1 else "")


class Started(NamedTuple):
    """What became of a flow, as `Committed` says; of one that has started, who may run and does not yet."""

    committed: Committed
    advanced: Advanced | None


class Beginning(NamedTuple):
    """What a flow is started with: see `commit`."""

    key: str
    gone: str
    nodes: int
    letters: str


def start(
    t: TypeKeys,
    s: ShardKeys,
    flow: str,
    page: str,
    about: Beginning,
    record: Mapping[str, Arg],
    items: Iterable[Item],
) -> Call[Started]:
    """Store and start a flow whose items are on one page, and let those who run first become tasks in the
    same step if they are of this type."""
    keys = {**_record(s, flow), "flow_items": s.flow_items(flow, page)}
    begin = (about.key, about.gone, about.nodes, FLOW_LIFE_MS, LOOK_MS, about.letters)
    args = (flow, t.type, "", 0, s.wake, page, *begin, *_part(record, items))
    return build("flow_start", args, _started, t, s, **keys)


def _started(reply: list[Reply]) -> Started:
    if reply[0] != b"started":
        return Started(_committed(reply), None)
    return Started(Committed("started", ""), _advanced(reply[1:]))


def _record(s: ShardKeys, flow: str) -> dict[str, Any]:
    return {"flow": s.flow(flow), "flow_states": s.flow_states(flow)}


def advance(s: ShardKeys, flow: str, rows: Iterable[str]) -> Call[Advanced]:
    """Take rows of one flow out of the inbox, and return who may run. A row: a node's number and how it
    ended."""
    return build("flow_advance", (flow, *rows), _advanced, s=s, **_record(s, flow))


def step(t: TypeKeys, s: ShardKeys, flow: str, page: str, rows: Iterable[str]) -> Call[Advanced]:
    """Advance a flow, and let those who may run become tasks in the same step if they are of this type and
    page of items. Returns the others."""
    keys = {**_record(s, flow), "flow_items": s.flow_items(flow, page)}
    return build("flow_step", (flow, t.type, "", 0, s.wake, page, *rows), _advanced, t, s, **keys)


def _advanced(reply: list[Reply]) -> Advanced:
    state, mark, _ = text(reply[0]).partition("!")
    return Advanced(state, bool(reply[1]), [_ready(*row) for row in reply[2:]], bool(mark))


def _ready(node: int, task_type: bytes, of: int | bytes, kind: bytes) -> Ready:
    return Ready(
        node, text(task_type), of if isinstance(of, int) else -1, kind in b"mg", kind == b"g", kind == b"x"
    )


def release(
    t: TypeKeys, s: ShardKeys, flow: str, page: str, nodes: Sequence[int], of: int = -1, first: int = 0
) -> Call[int]:
    """Let nodes of one type and page become tasks. of, first: the map and the number of its first child."""
    keys = {**_record(s, flow), "flow_items": s.flow_items(flow, page)}
    args: list[Arg] = [flow, t.type, "" if of < 0 else of, first, s.wake, *nodes]
    return build("flow_release", args, int, t, s, **keys)


def grow(s: ShardKeys, flow: str, node: int, first: int, children: int) -> Call[int]:
    """Give the children of a map their numbers. Returns 1, 0 if it is done or the flow runs no more, -1 if
    `first` is taken."""
    return build("flow_grow", (flow, node, first, children, MOST), int, s=s, **_record(s, flow))


def mark(s: ShardKeys, flow: str, what: Mark, node: int = 0, note: Note = NO_NOTE) -> Call[str]:
    """Cancel (drop: without undo) or fail a flow, or try the failed undo task of one that is stuck again
    (retry). Returns its state before, '' if there is none."""
    return build("flow_mark", (flow, what, node, *note), text, s=s, **_record(s, flow))


def renew(s: ShardKeys, flow: str, pages: Sequence[str], life_ms: int) -> Call[int]:
    """Give a flow's record and these keys of it a lifetime."""
    return build("flow_renew", (life_ms,), int, s=s, flow=s.flow(flow), flow_pages=pages)


def keep(s: ShardKeys, flow: str, again_ms: int, state: str) -> Call[bool]:
    """Note when a flow in this state is to be looked after next; forget one that is gone."""
    return build("flow_keep", (flow, again_ms, state), bool, s=s, flow=s.flow(flow))


class Results(NamedTuple):
    """States and results of nodes, in order. size: their bytes; -1 if they are too large."""

    size: int
    found: list[tuple[str, bytes]]


def results(s: ShardKeys, flow: str, nodes: Sequence[int], most_bytes: int) -> Call[Results]:
    """Read the states and the results of nodes."""
    keys = list(dict.fromkeys(s.flow_results(flow, node) for node in nodes))
    places = {key: n + 1 for n, key in enumerate(keys)}
    args: list[Arg] = [most_bytes, *(f"{node}:{places[s.flow_results(flow, node)]}" for node in nodes)]
    return build("flow_inputs", args, _results, s=s, **_record(s, flow), flow_results=keys)


def _results(reply: list[Reply]) -> Results:
    return Results(reply[0], [(text(state), value) for state, value in pairs(reply[1:])])


def children(s: ShardKeys, flow: str, node: int) -> Call[bytes | None]:
    """Read the children that a node's handler has returned."""
    key = s.flow_results(flow, node)
    return Call(None, (key,), ("HGET", key, f"g{node}"), lambda reply: reply)


def signal(s: ShardKeys, flow: str, name: str, value: bytes, key: str, note: Note = NO_NOTE) -> Call[str]:
    """Give a flow a signal. key: random, the same in each try. Returns what `flow_signal` does."""
    args = (flow, name, value, key, MOST_UNREAD, MOST_UNREAD_BYTES, *note)
    return build("flow_signal", args, text, s=s, **_record(s, flow))


class Audited(NamedTuple):
    """state: '' if there is no record. wrong: what is wrong with its numbers. next: the node to go on from,
    -1 at the end. released: number, type and local id of the tasks of released nodes."""

    state: str
    wrong: str
    next: int
    released: list[tuple[int, str, str]]


def audit(s: ShardKeys, flow: str, first: int, limit: int) -> Call[Audited]:
    """Check a flow's numbers, and name its released nodes."""
    return build("audit_flow", (flow, first, limit), _audited, s=s, **_record(s, flow))


def _audited(reply: list[Reply]) -> Audited:
    state, wrong, following, *rows = reply
    return Audited(
        text(state), text(wrong), following, [(n, text(name), text(local)) for n, name, local in rows]
    )


def tell(s: ShardKeys, row: str, now_ms: int) -> Call[bool]:
    """Put a row into the inbox."""
    return Call(None, (s.inbox,), ("ZADD", s.inbox, now_ms, row), bool)


def record(s: ShardKeys, flow: str, names: Sequence[str]) -> Call[list[bytes | None]]:
    """Read fields of a flow's record."""
    key = s.flow(flow)
    return Call(None, (key,), ("HMGET", key, *names), list)


def state(s: ShardKeys, flow: str) -> Call[str]:
    """Read the state of a flow; `unknown` if there is none."""
    key = s.flow(flow)
    return Call(None, (key,), ("HGET", key, "state"), lambda raw: "unknown" if raw is None else text(raw))


def states(s: ShardKeys, flow: str, first: int = 0, last: int = -1) -> Call[str]:
    """Read the states of nodes, a letter each."""
    key = s.flow_states(flow)
    return Call(None, (key,), ("GETRANGE", key, first, last), text)


def inbox(s: ShardKeys, until_ms: int, limit: int) -> Call[list[InboxRow]]:
    """Read rows of the inbox that are older."""
    args = ("ZRANGE", s.inbox, "-inf", until_ms, "BYSCORE", "LIMIT", 0, limit)
    return Call(None, (s.inbox,), args, lambda reply: [_inbox_row(text(row)) for row in reply])


def ends_of(s: ShardKeys, flow: str, nodes: Iterable[int]) -> Call[list[str]]:
    """Return what the inbox has of these nodes of a flow, at least one: rows of a number and how it ended."""
    rows = [f"{node} {how}" for node in nodes for how in "cdxeg"]
    args = ("ZMSCORE", s.inbox, *(f"{flow} {row}" for row in rows))
    return Call(
        None,
        (s.inbox,),
        args,
        lambda reply: [row for row, score in zip(rows, reply, strict=True) if score is not None],
    )


def _inbox_row(row: str) -> InboxRow:
    flow, _, what = row.partition(" ")
    return InboxRow(flow, what)


class Behind(NamedTuple):
    """there: whether the shard has flows. now: the server's time in ms. rows: what was left in the inbox."""

    there: bool
    now: int
    rows: list[InboxRow]


def behind(s: ShardKeys, patience_ms: int, limit: int, offset: int = 0) -> Call[Behind]:
    """Return rows of the inbox that have waited for so long, from the `offset` oldest on."""
    return build("flow_behind", (patience_ms, offset, limit), _behind, s=s)


def _behind(reply: list[Reply]) -> Behind:
    there, now, *rows = reply
    return Behind(bool(there), number(now), [_inbox_row(text(row)) for row in rows])


def due(s: ShardKeys, until_ms: int, limit: int, offset: int = 0) -> Call[list[str]]:
    """Return the flows that are to be looked after by now, from the `offset` first on."""
    args = ("ZRANGE", s.flows, "-inf", until_ms, "BYSCORE", "LIMIT", offset, limit)
    return Call(None, (s.flows,), args, lambda reply: list(map(text, reply)))


def listed(s: ShardKeys, limit: int = 0) -> Call[list[str]]:
    """Return flows of a shard, those that are looked after next first; all without a limit."""
    args = ("ZRANGE", s.flows, 0, limit - 1)
    return Call(None, (s.flows,), args, lambda reply: list(map(text, reply)))


def listed_last(s: ShardKeys, limit: int, least_ms: int = 0, most_ms: int = 10**15) -> Call[list[str]]:
    """Return flows of a shard, those that are looked after last first, within these times."""
    args = ("ZRANGE", s.flows, most_ms, least_ms, "BYSCORE", "REV", "LIMIT", 0, limit)
    return Call(None, (s.flows,), args, lambda reply: list(map(text, reply)))


def edge(s: ShardKeys, number: int, *, last: bool) -> Call[list[Reply]]:
    """Read flows with the times at which they are looked after: those that are next, or last."""
    args = ("ZRANGE", s.flows, 0, number - 1, *(("REV",) if last else ()), "WITHSCORES")
    return Call(None, (s.flows,), args, list)


def number_of_flows(s: ShardKeys) -> Call[int]:
    """Return how many flows of a shard are stored."""
    return Call(None, (s.flows,), ("ZCARD", s.flows), int)


def next_look(s: ShardKeys) -> Call[int | None]:
    """Return when the first flow is to be looked after, in ms since the epoch."""
    return Call(
        None,
        (s.flows,),
        ("ZRANGE", s.flows, 0, 0, "WITHSCORES"),
        lambda reply: number(reply[1].partition(b".")[0]) if reply else None,
    )


def next_timer(s: ShardKeys, now_ms: int) -> Call[int | None]:
    """Return when the next timer of a node ends, in ms since the epoch."""
    args = ("ZRANGE", s.inbox, f"({now_ms}", "+inf", "BYSCORE", "LIMIT", 0, 1, "WITHSCORES")
    return Call(None, (s.inbox,), args, lambda reply: number(reply[1].partition(b".")[0]) if reply else None)


LISTED_AT_ONCE: Final = 1000
"""Flows of a shard that one call lists."""


def listed_from(s: ShardKeys, first: int, number: int) -> Call[list[str]]:
    """Return flows of a shard, from this place on."""
    args = ("ZRANGE", s.flows, first, first + number - 1)
    return Call(None, (s.flows,), args, lambda reply: list(map(text, reply)))


def named(s: ShardKeys, key: str) -> Call[str]:
    """Return the flow that has a key; '' for none."""
    args = ("HGET", s.flow_names, f"k{key}")
    return Call(None, (s.flow_names,), args, lambda reply: "" if reply is None else text(reply))


def counted(raw: bytes | None) -> int:
    """Return a stored number, 0 for anything else."""
    return number(raw) if raw is not None and raw.isdigit() and len(raw) < 16 else 0
