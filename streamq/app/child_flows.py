"""Flows that run for a task: started in its handler, waited for without a slot, cancelled with it.

Owns the steps of one run, which every attempt takes anew. That the flow runs is a memo of the task, so only
who holds the task starts it, and any end of the task ends it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from streamq.app.enqueuer import Enqueuer
from streamq.app.flow_builder import Child, start
from streamq.app.flow_graph import FlowGraph, declared_of
from streamq.app.flow_results import FlowResults
from streamq.calls import flows as calls
from streamq.errors import FlowCancelled, FlowFailed, Suspended, UsageError
from streamq.flow import Flow, ask
from streamq.flows import actions
from streamq.flows.advancing import advance
from streamq.flows.children import ORPHANED, depth_of, local_of, note_started, signal_of
from streamq.flows.flow_id import FlowId
from streamq.flows.reading import OVER
from streamq.keys import shard_keys
from streamq.model.delivery import Delivery
from streamq.registry.registry import Registry
from streamq.stored import text

LOOK_S: Final = 3600.0
"""Seconds after which a task that waits for a flow looks at it, though nobody told that it has ended."""


class Memos(NamedTuple):
    """What a run needs of the steps of its attempt. use: notes the use of a name, once. memo, store: read and
    write a memo. woken: returns when the next signal of a name has come, else raises Suspended."""

    use: Callable[[str], None]
    memo: Callable[[str], Flow[bytes | None]]
    store: Callable[..., Flow[bytes | None]]
    woken: Callable[[str], Flow[bytes]]


class ChildFlows:
    """The flows that run for one task."""

    def __init__(self, registry: Registry, enqueuer: Enqueuer, task: Delivery, memos: Memos) -> None:
        self._registry, self._enqueuer, self._task, self._memos = registry, enqueuer, task, memos
        self._s = shard_keys(registry.name, task.shard)

    def run(self, graph: object, name: str | None, returns: object = None) -> Flow[Any]:
        """Return the result of a flow, which is started if it was not, or that of the node whose output
        `returns` is. Raises Suspended while it runs, FlowFailed and FlowCancelled."""
        if not isinstance(graph, FlowGraph):
            raise UsageError(f"{graph!r:.80} is not a flow: pass app.flow(...) with its nodes, not started")
        node = None if returns is None else graph.node_of(returns)
        name = name or graph.name
        local = local_of(self._task, name)
        memo = f"flow {local} {name}"
        self._memos.use(memo)
        existed = yield from self._started(graph, local, memo)
        flow = FlowId(graph.name, self._task.shard, local)
        results = FlowResults(self._registry, flow)
        failed = (yield from self._memos.memo(f"failed {local}")) or (b"before" if existed else None)
        while True:
            state = yield from self._ended(local)
            try:
                return (yield from results.result(node, state))
            except (FlowFailed, FlowCancelled):
                # A later attempt than the one that met a failure lets the flow go on, once.
                if failed in (None, self._attempt) or state == "unknown":
                    if failed is None:
                        yield from self._memos.store(f"failed {local}", self._attempt)
                    raise
                failed = self._attempt
                yield from actions.retry(self._s, flow, self._registry.pipeline)
                yield from self._memos.store(f"failed {local}", self._attempt, again=True)

    @property
    def _attempt(self) -> bytes:
        """What tells this attempt, with all that it is resumed, from those that failed before."""
        return hashlib.blake2b(self._task.failures, digest_size=8).hexdigest().encode()

    def _started(self, graph: FlowGraph, local: str, memo: str) -> Flow[bool]:
        """Start the flow if it was not. Return whether it is left from before the task began anew."""
        known = yield from self._memos.memo(memo)
        [state] = yield from ask(calls.record(self._s, local, ["state"]))
        existed = state not in (None, b"building")
        if known is not None and existed:
            return False
        depth = yield from depth_of(self._s, self._task)
        declared = declared_of(graph, self._registry)
        if known is None:
            if existed:
                yield from self._taken_over(local)
            yield from self._memos.store(memo, b"1")
        yield from note_started(self._s, self._task, local)
        child = Child(self._task.shard, local, str(self._task.id), depth)
        yield from start(self._registry, declared, "", child)
        return existed

    def _taken_over(self, local: str) -> Flow[None]:
        """Let the flow end that ran for this task before that began anew: what tells it that it runs for
        nobody may wait in the inbox still, and would reach it while it runs for this attempt. That its end is
        not the answer to this attempt is noted first."""
        yield from self._memos.store(f"failed {local}", b"before")
        yield from advance(self._s, local, [ORPHANED], reads=False)

    def _ended(self, local: str) -> Flow[str]:
        """Return the state of the flow once it has ended; raise Suspended while it runs. Whatever becomes of
        its record, the task looks at it again in an hour."""
        while True:
            [raw] = yield from ask(calls.record(self._s, local, ["state"]))
            state = "unknown" if raw is None else text(raw)
            if state in OVER:
                return state
            try:
                yield from self._memos.woken(signal_of(local))
            except Suspended as waits:
                raise Suspended(min(waits.delay, LOOK_S), waits.memo) from None
