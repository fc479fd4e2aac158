"""A flow that runs for a task, its parent: its identity, how its end reaches the parent, and whether that
lives.

Owns the fields `parent` and `depth` of a record. The child stands in the shard of its parent. Does no I/O:
flows of steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from streamq.calls import flows as calls
from streamq.calls import signals as signal_calls
from streamq.calls.call import Arg
from streamq.calls.locate import locate
from streamq.errors import DecodeError, InvalidTaskId, UsageError
from streamq.flow import Flow, ask
from streamq.flows import needs
from streamq.flows.flow_id import LOCAL
from streamq.flows.reading import OVER, FlowInfo, head
from streamq.keys import ShardKeys, type_keys
from streamq.model.delivery import Delivery
from streamq.model.task import LIVING, TaskId
from streamq.stored import text

DEEPEST: Final = 16
"""The most flows that run for one another, each for a node of the one before."""
MOST_NOTED: Final = 20
"""Flows of one node that its flow knows."""
MOST_SHOWN: Final = 100
ORPHANED: Final = "0 p"
"""The row of the inbox that tells a flow that the task is over that it ran for."""


def local_of(task: Delivery, name: str) -> str:
    """Return the local id of the flow that runs for a task under a name: the same in every attempt."""
    told = f"{task.id}/{task.generation}/{name}".encode()
    random = int.from_bytes(hashlib.blake2b(told, digest_size=8).digest(), "big") % 10**12
    return f"{task.local[1:].partition('-')[0][:15]}-{random:012d}"


def signal_of(flow: str) -> str:
    """Return the name of the signal that tells the parent of a flow that it has ended."""
    return f"flow {flow}"


def depth_of(s: ShardKeys, task: Delivery) -> Flow[int]:
    """Return the depth of a flow that is to run for a task. Raises UsageError if it is too deep."""
    depth = 1
    if task.node:
        try:
            [raw] = yield from ask(calls.record(s, needs.read(task.node).flow, ["depth"]))
        except DecodeError:
            raw = None
        depth += calls.counted(raw)
    if depth > DEEPEST:
        raise UsageError(
            f"task {task.id} is a node of a flow in a flow, {DEEPEST} deep: no flow can run for it. Let a "
            "flow further out do more, or enqueue the rest as follow-ups"
        )
    return depth


def note_started(s: ShardKeys, task: Delivery, flow: str) -> Flow[None]:
    """Note in the record of the flow that a task is a node of that a flow runs for the node."""
    if not task.node:
        return
    try:
        node = needs.read(task.node)
    except DecodeError:
        return
    field = f"in{node.number}"
    [raw] = yield from ask(calls.record(s, node.flow, [field]))
    known = text(raw or b"").split()
    if flow not in known and len(known) < MOST_NOTED:
        told: dict[str, Arg] = {field: " ".join([*known, flow])}
        yield from ask(calls.build_part(s, node.flow, "0", told, [], running=True))


def running_for(s: ShardKeys, flow: str, nodes: Sequence[int]) -> Flow[dict[int, list[FlowInfo]]]:
    """Return the flows that ran for nodes of a flow, by the nodes' numbers: those of the first 100 that are
    stored."""
    found: dict[int, list[FlowInfo]] = {}
    left = MOST_SHOWN
    for n in range(0, len(nodes), 500):
        part = nodes[n : n + 500]
        raw = yield from ask(calls.record(s, flow, [f"in{number}" for number in part]))
        for number, one in zip(part, raw, strict=True):
            locals_ = [word for word in text(one or b"").split() if LOCAL.fullmatch(word)][:left]
            left -= len(locals_)
            found[number] = yield from heads(s, locals_)
    return found


def heads(s: ShardKeys, flows: Iterable[str]) -> Flow[list[FlowInfo]]:
    """Return flows of a shard without their nodes, those that are stored."""
    found: list[FlowInfo] = []
    for one in flows:
        told = yield from head(s, one)
        found += [told] if told.state != "unknown" else []
    return found


def tell_parent(s: ShardKeys, flow: str) -> Flow[bool]:
    """Tell the task that a flow runs for that it has ended. However often: of one end it is one signal.
    Returns whether the task need not be told again."""
    [state, parent, generation] = yield from ask(calls.record(s, flow, ["state", "parent", "generation"]))
    task = _task(s, parent)
    # One that runs again tells its next end: told now, that would be taken for a repetition.
    if task is None or text(state or b"") not in OVER:
        return True
    key = hashlib.blake2b(f"{flow}/{text(generation or b'')}".encode(), digest_size=8).hexdigest()
    t, value = type_keys(s.app, s.shard, task.type), b'"' + (state or b"") + b'"'
    call = signal_calls.signal(t, task.local, signal_of(flow), value, key)
    return (yield from ask(call)) != "full"


def parent_lives(s: ShardKeys, parent: bytes | None) -> Flow[bool]:
    """Return whether the task that a flow runs for is there: one that is dead can be requeued."""
    task = _task(s, parent)
    if task is None:
        return False
    state = (yield from ask(locate(type_keys(s.app, s.shard, task.type), task.local))).state
    return state in LIVING or state == "dead"


def _task(s: ShardKeys, parent: bytes | None) -> TaskId | None:
    try:
        task = TaskId.parse(text(parent or b""))
    except InvalidTaskId:
        return None
    return task if task.shard == s.shard else None
