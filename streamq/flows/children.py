"""A flow that runs for a task, its parent: its identity, how its end reaches the parent, and whether that
lives.

Owns the fields `parent` and `depth` of a record. The child stands in the shard of its parent. Does no I/O:
flows of steps.
"""

from __future__ import annotations

import hashlib
from typing import Final

from streamq.calls import flows as calls
from streamq.calls import signals as signal_calls
from streamq.calls.locate import locate
from streamq.errors import DecodeError, InvalidTaskId, UsageError
from streamq.flow import Flow, ask
from streamq.flows import needs
from streamq.flows.reading import OVER
from streamq.keys import ShardKeys, type_keys
from streamq.model.delivery import Delivery
from streamq.model.task import LIVING, TaskId
from streamq.stored import text

DEEPEST: Final = 16
"""The most flows that run for one another, each for a node of the one before."""
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
