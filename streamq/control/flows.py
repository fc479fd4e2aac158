"""Flows as operators see them: list them, show one with its nodes, cancel one, let a failed one go on.

Owns the list of operations, each written once for `Flows` and for `AsyncFlows`. What a flow is, is in
`streamq.flows`; the log of actions says who did what.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

from streamq.calls import flows as calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.flows import InboxRow
from streamq.client import signals
from streamq.control import flow_pages
from streamq.control.action_log import note, user
from streamq.control.facade import AsyncFacade, Facade, SyncFacade, operation
from streamq.control.flow_pages import STUCK_MS, FlowChild, FlowPage, FlowPart, whole_flow
from streamq.control.task_info import TaskInfo
from streamq.control.unreadable import Unreadable
from streamq.errors import ServerError
from streamq.flow import Flow, ask, in_pages
from streamq.flows import actions, reading
from streamq.flows.flow_id import FlowId
from streamq.flows.inputs import Failure, cause_of, stuck_in
from streamq.flows.naming import about_signal
from streamq.flows.reading import FlowInfo, FlowState, NodeInfo, NodeState
from streamq.keys import ShardKeys, shard_keys
from streamq.model.task import SignalAnswer
from streamq.namespace import with_ring
from streamq.payloads.pipeline import pipeline_for
from streamq.payloads.ring import ring_of


@dataclass(frozen=True, slots=True)
class FlowView:
    """A flow with its nodes as they were declared. failure: of the node that failed first, where one has.
    stuck: of the undo task that failed, where the flow is stuck.
    path: the names of the nodes that the end has waited for, or waits for, the first first."""

    flow: FlowInfo
    nodes: list[NodeInfo]
    failure: Failure | None
    path: list[str]
    stuck: Failure | None = None


class FlowDesk(Facade):
    """What may be asked of the flows of one app, and done to them."""

    _by = ""
    faults: tuple[str, ...] = ()
    """What the last `all()` or `troubled()` could not read: its result does not include that."""

    def acting_for(self, by: str) -> Self:
        """Return the same in somebody's name: what is done through it is in the log of actions."""
        found = copy.copy(self)
        found._by = by or user()  # noqa: SLF001 - its own class
        return found

    @operation
    def all(self) -> Flow[list[FlowInfo]]:
        """Return all flows that are stored, the newest first; `page` returns so many at once."""
        found: list[FlowInfo] = []
        look = Unreadable()
        for s in (yield from self._every()):
            try:
                if (yield from look.ask(calls.listed_from(s, 0, 1), list[str])):
                    for local in (yield from in_pages(partial(calls.listed_from, s), calls.LISTED_AT_ONCE)):
                        found += yield from flow_pages.listed(s, local, look)
            except ServerError as error:  # of another cause
                look.note(str(error))
        self.faults = tuple(look.faults)
        return sorted(found, key=lambda one: (one.started_ms, one.id), reverse=True)

    def without_keys(self) -> Self:
        """Return the same, which shows of what is sealed only that it is."""
        found = copy.copy(self)
        found._app = with_ring(self._app, None)  # noqa: SLF001 - its own class
        return found

    @operation
    def pulse(self) -> Flow[list[object]]:
        """Return something that differs soon after a flow has started or ended."""
        found: list[object] = []
        for s in (yield from self._every()):
            found += yield from ask(calls.edge(s, 20, last=False))
            found += yield from ask(calls.edge(s, 20, last=True))
        return found

    @operation
    def page(self, state: FlowState | None = None, *, cursor: str = "", limit: int = 50) -> Flow[FlowPage]:
        """Return a page of the flows in a state, or in any, the newest first. Raises UsageError for an
        invalid cursor."""
        shards = yield from self._every()
        return (yield from flow_pages.page(shards, state, cursor, max(1, min(limit, 1000))))

    @operation
    def troubled(self, limit: int = 5) -> Flow[tuple[list[FlowInfo], list[FlowInfo]]]:
        """Return flows that run but do not go on, and those that failed last: at most `limit` of each."""
        look = Unreadable()
        found = yield from flow_pages.troubled((yield from self._every()), limit, look)
        self.faults = tuple(look.faults)
        return found

    @operation
    def part(self, flow_id: str, first: int | None = None) -> Flow[FlowPart]:
        """Return one flow with about 1,000 of its nodes, from the number `first` on; without that, those
        with the node that failed first. Raises UnknownFlow, and Damaged as `get` does."""
        flow, s = self._of(flow_id)
        return (yield from whole_flow(s, flow.local, flow_pages.part(s, flow, first)))

    @operation
    def children(
        self, flow_id: str, node: int, state: NodeState | None = None, *, first: int = 0, limit: int = 50
    ) -> Flow[tuple[list[FlowChild], int]]:
        """Return children of a map (the number of its node), those in a state or all, from an index on; and
        the index that the next page begins with, -1 at the end. Raises Damaged as `get` does."""
        flow, s = self._of(flow_id)
        return (yield from whole_flow(s, flow.local, flow_pages.children(s, flow, node, state, first, limit)))

    @operation
    def node_of(self, task: TaskInfo) -> Flow[tuple[str, str] | None]:
        """Return the id of the flow that a task is a node of, and the node's name; None if it is of none."""
        return (yield from flow_pages.node_of(self._app, task))

    @operation
    def get(self, flow_id: str) -> Flow[FlowView]:
        """Return one flow with its nodes. Raises UnknownFlow, and Damaged if a key of it cannot be read."""
        flow, s = self._of(flow_id)
        return (yield from whole_flow(s, flow.local, _view(s, flow)))

    @operation
    def cancel(self, flow_id: str, *, undo: bool = True) -> Flow[bool]:
        """Cancel a flow; return whether it was running. undo: whether what has completed is undone. Raises
        UnknownFlow, and Damaged as `get` does."""
        flow, s = self._of(flow_id)
        told = note(self._by or user(), "cancel flow", str(flow))
        return (yield from whole_flow(s, flow.local, actions.cancel(s, flow, told, undo=undo)))

    @operation
    def retry(self, flow_id: str, *, start: Sequence[str] = ()) -> Flow[bool]:
        """Let a flow go on that has failed, was cancelled or is stuck with its undo; return whether it does.
        start: names of nodes that run again as well, with all that waits for them, also where it has
        completed. Raises UnknownFlow, UsageError for an unknown name, and Damaged as `get` does."""
        flow, s = self._of(flow_id)
        told = note(self._by or user(), "retry flow", str(flow))
        return (
            yield from whole_flow(s, flow.local, actions.retry(s, flow, note=told, reads=False, start=start))
        )

    @operation
    def signal(self, flow_id: str, name: str, value: object = None) -> Flow[SignalAnswer]:
        """Give a flow a signal; return the same as `FlowHandle.signal`. Raises what that raises, and Damaged
        as `get` does."""
        flow, s = self._of(flow_id)
        sealed = ring_of(self._app) is not None
        told = note(self._by or user(), "signal flow", f"{flow} {signals.checked_name(name)}")
        raw = signals.sealed_value(value, pipeline_for(None, sealed=sealed), about_signal(s, flow.local))
        return (yield from whole_flow(s, flow.local, actions.signal(s, flow, name, raw, told)))

    @operation
    def left_behind(self) -> Flow[dict[str, int]]:
        """Return the flows of which ends of nodes have waited in an inbox for a minute, by local id, each
        with how many: nobody lets them go on. At most 1,000 ends of a shard are looked at."""
        found, look = Counter[str](), Unreadable()
        for s in (yield from self._every()):
            now = yield from ask(question_calls.now(s.inbox))
            rows = yield from look.ask(calls.inbox(s, now - STUCK_MS, 1000), list[InboxRow])
            found.update(row.flow for row in rows)
        return dict(found)

    def _every(self) -> Flow[list[ShardKeys]]:
        """Return the shards that may have flows."""
        record = yield from ask(producer_calls.app_record(self._app))
        known = self._shards if record is None else max(self._shards, record.known)
        return [shard_keys(self._app, shard) for shard in range(known)]

    def _of(self, flow_id: str) -> tuple[FlowId, ShardKeys]:
        flow = FlowId.parse(flow_id)
        return flow, shard_keys(self._app, flow.shard)


def _view(s: ShardKeys, flow: FlowId) -> Flow[FlowView]:
    head = yield from reading.head(s, flow.local)
    if head.state == "unknown":
        raise actions.unknown(flow)
    nodes = yield from flow_pages.with_flows(s, flow.local, (yield from reading.nodes(s, flow.local)))
    failure = (yield from cause_of(s, flow.local)) if head.cause else None
    stuck = (yield from stuck_in(s, flow.local)) if head.state == "stuck" else None
    return FlowView(head, nodes, failure, path_of(nodes), stuck)


def path_of(nodes: list[NodeInfo]) -> list[str]:
    """Return the longest chain of nodes that wait for one another: the critical path by number of nodes."""
    by_name = {one.name: one for one in nodes}
    longest: dict[str, tuple[int, str]] = {}
    for one in nodes:  # a node waits for earlier ones only
        known = [(longest[name][0], name) for name in one.waits if name in longest]
        before = max(known, key=lambda depth: depth[0], default=(0, ""))
        longest[one.name] = (before[0] + 1, before[1])
    if not longest:
        return []
    name = max(longest, key=lambda one: longest[one][0])
    path: list[str] = []
    while name in by_name:
        path.append(name)
        name = longest[name][1]
    return path[::-1]


class Flows(FlowDesk, SyncFacade, called="app.flows", awaited="app.aflows"):
    """The flows of an app: `app.flows`."""


class AsyncFlows(FlowDesk, AsyncFacade):
    """The flows of an app for event loops: `app.aflows`."""
