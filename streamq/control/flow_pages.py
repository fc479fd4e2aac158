"""Read flows a page at a time, so that a list, and the picture of a flow, cost the same whatever there is.

Owns the pages and their bounds. Does no I/O: flows of steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from streamq.calls import flows as calls
from streamq.calls import question as question_calls
from streamq.calls.call import R
from streamq.control.task_info import TaskInfo
from streamq.control.unreadable import Damaged, Unreadable, describe_fault, is_data_fault
from streamq.errors import DecodeError, ServerError, UsageError
from streamq.flow import Flow, ask
from streamq.flows import needs, reading
from streamq.flows.actions import unknown
from streamq.flows.children import running_for
from streamq.flows.flow_id import LOCAL, FlowId, task_of
from streamq.flows.inputs import Failure, cause_of, stuck_in
from streamq.flows.naming import children_kinds, maps, named_task, parent_of, parsed_maps
from streamq.flows.reading import OVER, FlowInfo, FlowState, NodeInfo, NodeState
from streamq.keys import ShardKeys, shard_keys
from streamq.model.task import TaskId

LISTED: Final = 5_000
"""Flows that are taken from each end of a shard's index: those that are looked after next, and last."""
LOOKED_AT: Final = 500
"""Flows whose state one page reads, to find those in a state."""
STUCK_MS: Final = 60_000
"""Ms after which a row of the inbox, or a flow to be looked after, says that flows do not go on: nobody has
taken it."""
NODES: Final = 1_000
"""Nodes of one picture."""
_BEFORE_CAUSE: Final = 20
"""Nodes of a large flow that are shown before the one that failed."""
_NAMED: Final = 200
"""Names of earlier nodes that one picture reads."""
_FAILED_MS: Final = 2 * 86_400_000
"""In the index, only flows that failed or were cancelled are so far ahead of the clock."""


@dataclass(frozen=True, slots=True)
class FlowPage:
    """Flows, the newest first. cursor: of the next page, '' at the end. looked_at: of how many the state was
    read. total: how many flows are stored. left_out: how many of these no page shows."""

    flows: list[FlowInfo]
    cursor: str
    looked_at: int
    total: int
    left_out: int
    now_ms: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowPart:
    """A flow with some of its declared nodes. declared: how many it has. before, after: the states of those
    that are declared before these, and after. failure: of the node that failed first. stuck: of the undo task
    that failed, where the flow is stuck."""

    flow: FlowInfo
    nodes: list[NodeInfo]
    declared: int
    before: dict[NodeState, int]
    after: dict[NodeState, int]
    failure: Failure | None
    stuck: Failure | None = None


class FlowChild(NamedTuple):
    """A child of a map: its place in the list, its state, its task's id, and the flows that ran for it."""

    place: int
    state: NodeState
    task: str
    flows: Sequence[FlowInfo] = ()


class _Place(NamedTuple):
    """Where a flow is; in this order the newest is the greatest."""

    stamp: int
    local: str
    shard: int

    @classmethod
    def of(cls, local: str, shard: int) -> _Place:
        stamp = local.partition("-")[0]
        return cls(int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) < 16 else 0, local, shard)


def page(shards: list[ShardKeys], state: FlowState | None, cursor: str, limit: int) -> Flow[FlowPage]:
    """Return a page of the flows in a state, or in any. Raises UsageError for an invalid cursor."""
    before = _parsed(cursor)
    look, by_shard = Unreadable(), {s.shard: s for s in shards}
    places, total = yield from _places(shards, look)
    now = yield from ask(question_calls.now(shards[0].inbox))
    rest = [one for one in places if before is None or one < before]
    found: list[FlowInfo] = []
    looked_at = 0
    for place in rest[:LOOKED_AT]:
        if len(found) >= limit:
            break
        looked_at += 1
        heads = yield from listed(by_shard[place.shard], place.local, look)
        found += [one for one in heads if state in (None, one.state)]
    more = looked_at < len(rest)
    following = f"{rest[looked_at - 1].shard} {rest[looked_at - 1].local}" if more and looked_at else ""
    left_out = total - len(places)
    return FlowPage(found, following, looked_at, total, left_out, now, tuple(look.faults))


def troubled(
    shards: list[ShardKeys], limit: int, look: Unreadable
) -> Flow[tuple[list[FlowInfo], list[FlowInfo]]]:
    """Return flows that do not go on although they run, and those that failed last, at most `limit` each.
    look: notes what cannot be read."""
    by_shard = {s.shard: s for s in shards}
    now = yield from ask(question_calls.now(shards[0].inbox))
    late: list[_Place] = []
    gone: list[_Place] = []
    for s in shards:
        rows = yield from look.ask(calls.inbox(s, now - STUCK_MS, limit * 10), list)
        due = yield from look.ask(calls.due(s, now - STUCK_MS, limit * 10), list)
        late += [_Place.of(local, s.shard) for local in dict.fromkeys([*(row.flow for row in rows), *due])]
        last = yield from look.ask(calls.listed_last(s, limit * 2, now + _FAILED_MS), list)
        last += yield from look.ask(calls.listed_last(s, limit * 2, most_ms=now), list)  # just ended
        gone += [_Place.of(local, s.shard) for local in last]
    stuck = yield from _heads(by_shard, sorted(late, reverse=True), look, 2 * limit)
    failed = yield from _heads(by_shard, gone, look, 4 * limit * len(shards))
    failed = [one for one in failed if one.state in ("failed", "stuck")]
    failed.sort(key=lambda one: (one.state == "stuck", one.ended_ms or 0), reverse=True)
    return [one for one in stuck if one.state not in OVER][:limit], failed[:limit]


def part(s: ShardKeys, flow: FlowId, first: int | None, limit: int = NODES) -> Flow[FlowPart]:
    """Return a flow with its declared nodes from the number `first` on; without that, those with the node
    that failed first. Raises UnknownFlow."""
    head = yield from reading.head(s, flow.local)
    if head.state == "unknown":
        raise unknown(flow)
    [static, cause, maps_] = yield from ask(calls.record(s, flow.local, ["static", "cause", "maps"]))
    declared = min(calls.counted(static), calls.MOST)
    if first is None:
        node = _declared(calls.counted(cause), parsed_maps(maps_))
        first = 0 if node < limit else node - _BEFORE_CAUSE
    first = max(0, min(first, declared - 1))
    nodes = yield from reading.nodes(s, flow.local, first, limit, _NAMED)
    nodes = yield from with_flows(s, flow.local, nodes)
    states = yield from ask(calls.states(s, flow.local, 0, max(0, declared - 1)))
    failure = (yield from cause_of(s, flow.local)) if head.cause else None
    before, after = states[:first], states[first + len(nodes) : declared]
    stuck = (yield from stuck_in(s, flow.local)) if head.state == "stuck" else None
    return FlowPart(head, nodes, declared, _counted(before), _counted(after), failure, stuck)


def with_flows(s: ShardKeys, flow: str, nodes: Sequence[NodeInfo]) -> Flow[list[NodeInfo]]:
    """Return nodes with the flows that ran for them."""
    found = yield from running_for(s, flow, [one.number for one in nodes])
    return [replace(one, flows=found[one.number]) if found.get(one.number) else one for one in nodes]


def _declared(number: int, ranges: Mapping[int, tuple[int, int]]) -> int:
    """Return the number of a node as it was declared: of a child, that of its map."""
    while (of := parent_of(number, ranges)) is not None:
        number = of
    return number


def node_of(app: str, task: TaskInfo) -> Flow[tuple[str, str] | None]:
    """Return the id of the flow that a task is a node of, and the node's name; None if it is of none."""
    try:
        node = needs.read(task.fields.get("y", b""))
    except DecodeError:
        return None
    s = shard_keys(app, TaskId.parse(task.id).shard)
    if not LOCAL.fullmatch(node.flow):
        return None
    head = yield from whole_flow(s, node.flow, reading.head(s, node.flow))
    if head.state == "unknown":
        return None
    name, _ = yield from named_task(s, node.flow, node.number, (yield from maps(s, node.flow)))
    return head.id, name


def children(
    s: ShardKeys, flow: FlowId, node: int, state: NodeState | None, first: int, limit: int
) -> Flow[tuple[list[FlowChild], int]]:
    """Return the children of a map, those in a state or all, from an index on; and the index of the next
    page, -1 at the end."""
    ranges = yield from maps(s, flow.local)
    begin, count = ranges.get(node, (0, 0))
    _, task = yield from named_task(s, flow.local, begin, ranges)
    kinds = yield from children_kinds(s, flow.local, node)
    states = yield from ask(calls.states(s, flow.local, begin, max(begin, begin + count - 1)))
    found: list[FlowChild] = []
    for index in range(max(0, first), min(count, len(states))):
        shown = reading.name_of(states[index])
        if state is not None and shown != state:
            continue
        if len(found) == limit:
            return (yield from _with_flows(s, flow.local, begin, found)), index
        name, letter = ("", "") if task is None else (task.type, task.local[0])
        if kinds is not None:
            name, letter = kinds[index] if index < len(kinds) else ("", "")
        local = task_of(flow.local, letter, begin + index)
        found.append(FlowChild(index, shown, str(TaskId(name, s.shard, local)) if name else ""))
    return (yield from _with_flows(s, flow.local, begin, found)), -1


def _with_flows(s: ShardKeys, flow: str, begin: int, found: list[FlowChild]) -> Flow[list[FlowChild]]:
    ran = yield from running_for(s, flow, [begin + one.place for one in found])
    return [one._replace(flows=ran.get(begin + one.place, ())) for one in found]


def _places(shards: list[ShardKeys], look: Unreadable) -> Flow[tuple[list[_Place], int]]:
    """Return where flows are, the newest first, and how many there are."""
    found: list[_Place] = []
    total = 0
    for s in shards:
        listed = yield from look.ask(calls.listed(s, 2 * LISTED), list)
        number = len(listed)
        if number >= 2 * LISTED:
            number = yield from look.ask(calls.number_of_flows(s), int)
            listed = listed[:LISTED] + (yield from look.ask(calls.listed_last(s, LISTED), list))
        total += number
        found += [_Place.of(local, s.shard) for local in dict.fromkeys(listed)]
    return sorted(found, reverse=True), total


def _heads(
    by_shard: dict[int, ShardKeys], places: list[_Place], look: Unreadable, limit: int
) -> Flow[list[FlowInfo]]:
    found: list[FlowInfo] = []
    for place in places[:limit]:
        found += yield from listed(by_shard[place.shard], place.local, look)
    return found


def listed(s: ShardKeys, local: str, look: Unreadable) -> Flow[list[FlowInfo]]:
    """Return a flow for a list; if its record cannot be read, note that: the others are listed."""
    try:
        found = yield from whole_flow(s, local, reading.head(s, local))
    except Damaged as error:
        look.note(str(error))
        return []
    return [] if found.state == "unknown" else [found]


def whole_flow(s: ShardKeys, local: str, steps: Flow[R]) -> Flow[R]:
    """Carry out the steps of one flow. Raises Damaged, which names the key, if stored data cannot be read."""
    try:
        return (yield from steps)
    except ServerError as error:
        if not is_data_fault(error):
            raise
        keys = [s.flow(local), s.flow_states(local), s.flow_results(local, 0)]
        raise Damaged(f"flow {local} {(yield from describe_fault(keys, error))}") from None


def _counted(states: str) -> dict[NodeState, int]:
    return {reading.name_of(letter): states.count(letter) for letter in dict.fromkeys(states)}


def _parsed(cursor: str) -> _Place | None:
    if not cursor:
        return None
    shard, _, local = cursor.partition(" ")
    if not (shard.isascii() and shard.isdigit() and len(shard) <= 4 and LOCAL.fullmatch(local)):
        raise UsageError("invalid cursor: use one returned by a previous page")
    return _Place.of(local, int(shard))
