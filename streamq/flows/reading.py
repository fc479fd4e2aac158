"""What is known of a flow, and of its nodes, for people and for programs that wait for it.

Owns the values and how they are read from the record. What is damaged reads as unknown. Must not write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from streamq.calls import flows as calls
from streamq.errors import InvalidTaskId
from streamq.flow import Flow, ask
from streamq.flows.flow_id import FlowId, task_of
from streamq.flows.inputs import STATE_NAMES
from streamq.flows.naming import is_number, parsed_maps
from streamq.keys import ShardKeys
from streamq.model.task import NAME_PATTERN, TaskId
from streamq.stored import text

FlowState = Literal[
    "running", "failing", "cancelling", "undoing", "completed", "failed", "cancelled", "stuck", "unknown"
]
NodeState = Literal[
    "waiting", "ready", "released", "completed", "dead", "cancelled", "expired", "skipped", "unknown"
]
NodeKind = Literal["task", "map", "undo", "sleep", "wait", "first"]
_KINDS: Final[dict[object, NodeKind]] = {
    "map": "map", "undo": "undo", "sleep": "sleep", "wait": "wait", "first": "first",
}  # fmt: skip
_FLOW_STATES: Final[dict[str, FlowState]] = {
    "running": "running", "failing": "failing", "cancelling": "cancelling", "completed": "completed",
    "failed": "failed", "cancelled": "cancelled", "undoing": "undoing", "stuck": "stuck",
}  # fmt: skip
OVER: Final[frozenset[FlowState]] = frozenset({"completed", "failed", "cancelled", "stuck", "unknown"})
"""The states in which nothing of a flow runs any more."""
_COUNTS: Final = ("nodes", "waiting", "released", "done", "skipped", "failed")
_AT_ONCE: Final = 500
"""Declared nodes that one call reads."""
_HEAD: Final = ("state", "name", "key", "started", "ended", "cause", "parent", *_COUNTS)


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """A flow. The books: nodes = waiting + released + done + skipped; failed are a part of done. Times are ms
    since the epoch by the server's clock. cause: the name of the node that failed first. parent: the id of
    the task that it runs for, '' if it runs for none."""

    id: str
    name: str
    state: FlowState
    key: str
    started_ms: int
    ended_ms: int | None
    nodes: int
    waiting: int
    released: int
    done: int
    skipped: int
    failed: int
    cause: str = ""
    parent: str = ""

    @property
    def imbalance(self) -> int:
        """By how many nodes the books are off."""
        return self.nodes - self.waiting - self.released - self.done - self.skipped


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as it was declared. kind: task, map, undo (the task that undoes another node), sleep (a timer),
    wait (for a signal), or first (of several nodes). waits: the names of the nodes that it waits for. task:
    the id of its task, '' where it has none. children: how many are in each state. flows: those that ran for
    it, where these were asked for."""

    name: str
    number: int
    kind: NodeKind
    type: str
    state: NodeState
    waits: Sequence[str]
    task: str
    children: Mapping[NodeState, int]
    tolerated: bool = False
    flows: Sequence[FlowInfo] = ()


def head(s: ShardKeys, flow: str) -> Flow[FlowInfo]:
    """Return a flow without its nodes; its state is unknown if there is none."""
    raw = yield from ask(calls.record(s, flow, _HEAD))
    told = dict(zip(_HEAD, raw, strict=True))
    name, state = text(told["name"] or b""), text(told["state"] or b"")
    name = name if NAME_PATTERN.fullmatch(name) else "unknown"
    known = _FLOW_STATES.get(state, "unknown")
    counts = {one: calls.counted(told[one]) for one in _COUNTS}
    ended = calls.counted(told["ended"]) if told["ended"] else None
    key = text(told["key"] or b"").partition(":")[2]
    cause = text(told["cause"] or b"")
    if is_number(cause):
        cause = yield from _name_of(s, flow, int(cause))
    return FlowInfo(
        str(FlowId(name, s.shard, flow)),
        name,
        known,
        key,
        calls.counted(told["started"]),
        ended,
        **counts,
        cause=cause,
        parent=_task_id(told["parent"]),
    )


def _task_id(raw: bytes | None) -> str:
    try:
        return str(TaskId.parse(text(raw or b"")))
    except InvalidTaskId:
        return ""


def _name_of(s: ShardKeys, flow: str, number: int) -> Flow[str]:
    [maps] = yield from ask(calls.record(s, flow, ["maps"]))
    for node, (first, count) in parsed_maps(maps).items():
        if first <= number < first + count:
            return f"{(yield from _own_name(s, flow, node))}[{number - first}]"
    return (yield from _own_name(s, flow, number))


def _own_name(s: ShardKeys, flow: str, number: int) -> Flow[str]:
    [raw] = yield from ask(calls.record(s, flow, [f"n{number}"]))
    return str(_told(raw).get("m", number))


def _told(raw: bytes | None) -> dict[str, Any]:
    try:
        found: Any = orjson.loads(raw or b"{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    kinds: dict[str, type] = {"m": str, "t": str, "l": str, "k": str, "a": list, "c": bool}
    return {name: value for name, value in found.items() if isinstance(value, kinds.get(name, object))}


def nodes(
    s: ShardKeys, flow: str, first: int = 0, limit: int = 10_000, named: int = calls.MOST
) -> Flow[list[NodeInfo]]:
    """Return the declared nodes of a flow, in their order, from the number `first`. named: of how many nodes
    outside of these, that they wait for, the names are read; others are named by their number, as #17."""
    [static, maps] = yield from ask(calls.record(s, flow, ["static", "maps"]))
    last = min(calls.counted(static), first + limit)
    states, ranges = (yield from ask(calls.states(s, flow))), parsed_maps(maps)
    read = yield from _declared(s, flow, range(first, last))
    parents = dict.fromkeys(parent for told in read.values() for parent in _parents(told))
    others = [parent for parent in parents if parent not in read][:named]
    names = {number: told.get("m") for number, told in (yield from _declared(s, flow, others)).items()}
    names |= {number: told.get("m") for number, told in read.items()}
    return [_node(s, flow, number, told, names, states, ranges) for number, told in read.items()]


def _declared(s: ShardKeys, flow: str, numbers: Sequence[int]) -> Flow[dict[int, dict[str, Any]]]:
    """Return what nodes were declared as, by their numbers."""
    read: dict[int, dict[str, Any]] = {}
    for n in range(0, len(numbers), _AT_ONCE):
        page = numbers[n : n + _AT_ONCE]
        raw = yield from ask(calls.record(s, flow, [f"n{number}" for number in page]))
        read |= {number: _told(one) for number, one in zip(page, raw, strict=True)}
    return read


def _parents(told: Mapping[str, Any]) -> list[int]:
    return [parent for parent in told.get("a", ()) if isinstance(parent, int)]


def _node(
    s: ShardKeys,
    flow: str,
    number: int,
    told: Mapping[str, Any],
    names: Mapping[int, str | None],
    states: str,
    ranges: Mapping[int, tuple[int, int]],
) -> NodeInfo:
    kind = _KINDS.get(told.get("k"), "task")
    task_type, letter = told.get("t", ""), told.get("l", "n")
    task = TaskId(task_type, s.shard, task_of(flow, letter, number)) if kind != "map" and task_type else ""
    begin, count = ranges.get(number, (0, 0))
    part = states[begin : begin + count]
    children: dict[NodeState, int] = {name_of(letter): part.count(letter) for letter in dict.fromkeys(part)}
    waits = [names.get(parent, f"#{parent}") or str(parent) for parent in _parents(told)]
    state = name_of(states[number : number + 1])
    return NodeInfo(
        told.get("m", str(number)),
        number,
        kind,
        task_type,
        state,
        waits,
        str(task),
        children,
        told.get("c", False),
    )


def name_of(letter: str) -> NodeState:
    """Return the state that a letter stands for."""
    found: Any = STATE_NAMES.get(letter, "unknown")
    state: NodeState = found
    return state


class Named(NamedTuple):
    """A node as a reader of results needs it. numbers: its own, or those of a map's children, of which
    `first` is the first of all. children: of a node that is no map, those that its handler has made."""

    number: int
    first: int
    kind: NodeKind
    type: str
    numbers: range
    children: range = range(0)


def last_nodes(s: ShardKeys, flow: str) -> Flow[dict[str, Named]]:
    """Return the nodes that no other node waits for, by name."""
    [last, maps] = yield from ask(calls.record(s, flow, ["last", "maps"]))
    numbers = [int(word) for word in text(last or b"").split() if is_number(word)]
    ranges = parsed_maps(maps)
    found: dict[str, Named] = {}
    for n in range(0, len(numbers), 500):
        part = numbers[n : n + 500]
        raw = yield from ask(calls.record(s, flow, [f"n{number}" for number in part]))
        for number, one in zip(part, raw, strict=True):
            told = _told(one)
            found[str(told.get("m", number))] = named(number, told, ranges)
    return found


def named(number: int, told: Mapping[str, Any], ranges: Mapping[int, tuple[int, int]]) -> Named:
    """Return what a reader of results needs of a node. told: its row of the record."""
    kind = _KINDS.get(told.get("k"), "task")
    first, count = ranges.get(number, (0, 0))
    children = range(first, first + count)
    if kind == "map":
        return Named(number, first, kind, told.get("t", ""), children)
    return Named(number, number, kind, told.get("t", ""), range(number, number + 1), children)
