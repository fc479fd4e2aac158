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
from typing import Final, Self

from streamq.calls import flows as calls
from streamq.calls import producer as producer_calls
from streamq.calls import question as question_calls
from streamq.calls.call import R
from streamq.calls.flows import InboxRow
from streamq.control.action_log import note, user
from streamq.control.facade import AsyncFacade, Facade, SyncFacade, operation
from streamq.control.unreadable import Damaged, Unreadable, describe_fault, is_data_fault
from streamq.errors import ServerError
from streamq.flow import Flow, ask, in_pages
from streamq.flows import actions, reading
from streamq.flows.flow_id import FlowId
from streamq.flows.inputs import Failure, cause_of, stuck_in
from streamq.flows.reading import FlowInfo, NodeInfo
from streamq.keys import ShardKeys, shard_keys

STUCK_MS: Final = 60_000
"""Ms after which a row of the inbox that nobody has taken says that flows do not go on."""


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
    """What the last `all()` could not read: its result does not include that."""

    def acting_for(self, by: str) -> Self:
        """Return the same in somebody's name: what is done through it is in the log of actions."""
        found = copy.copy(self)
        found._by = by or user()  # noqa: SLF001 - its own class
        return found

    @operation
    def all(self) -> Flow[list[FlowInfo]]:
        """Return all flows that are stored, the newest first."""
        found: list[FlowInfo] = []
        look = Unreadable()
        for s in (yield from self._every()):
            try:
                if (yield from look.ask(calls.listed(s, 0, 1), list[str])):
                    for local in (yield from in_pages(partial(calls.listed, s), calls.LISTED_AT_ONCE)):
                        found += yield from _listed(s, local, look)
            except ServerError as error:  # of another cause
                look.note(str(error))
        self.faults = tuple(look.faults)
        found = [one for one in found if one.state != "unknown"]
        return sorted(found, key=lambda one: (one.started_ms, one.id), reverse=True)

    @operation
    def get(self, flow_id: str) -> Flow[FlowView]:
        """Return one flow with its nodes. Raises UnknownFlow, and Damaged if a key of it cannot be read."""
        flow, s = self._of(flow_id)
        return (yield from _whole(s, flow.local, _view(s, flow)))

    @operation
    def cancel(self, flow_id: str, *, undo: bool = True) -> Flow[bool]:
        """Cancel a flow; return whether it was running. undo: whether what has completed is undone. Raises
        UnknownFlow, and Damaged as `get` does."""
        flow, s = self._of(flow_id)
        told = note(self._by or user(), "cancel flow", str(flow))
        return (yield from _whole(s, flow.local, actions.cancel(s, flow, told, undo=undo)))

    @operation
    def retry(self, flow_id: str, *, start: Sequence[str] = ()) -> Flow[bool]:
        """Let a flow go on that has failed, was cancelled or is stuck with its undo; return whether it does.
        start: names of nodes that run again as well, with all that waits for them, also where it has
        completed. Raises UnknownFlow, UsageError for an unknown name, and Damaged as `get` does."""
        flow, s = self._of(flow_id)
        told = note(self._by or user(), "retry flow", str(flow))
        return (yield from _whole(s, flow.local, actions.retry(s, flow, note=told, reads=False, start=start)))

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
    nodes = yield from reading.nodes(s, flow.local)
    failure = (yield from cause_of(s, flow.local)) if head.cause else None
    stuck = (yield from stuck_in(s, flow.local)) if head.state == "stuck" else None
    return FlowView(head, nodes, failure, path_of(nodes), stuck)


def _listed(s: ShardKeys, local: str, look: Unreadable) -> Flow[list[FlowInfo]]:
    """Return a flow for a list; if its record cannot be read, note that: the others are listed."""
    try:
        return [(yield from _whole(s, local, reading.head(s, local)))]
    except Damaged as error:
        look.note(str(error))
        return []


def _whole(s: ShardKeys, local: str, steps: Flow[R]) -> Flow[R]:
    """Carry out the steps of one flow. Raises Damaged, which names the key, if stored data cannot be read."""
    try:
        return (yield from steps)
    except ServerError as error:
        if not is_data_fault(error):
            raise
        keys = [s.flow(local), s.flow_states(local), s.flow_results(local, 0)]
        raise Damaged(f"flow {local} {(yield from describe_fault(keys, error))}") from None


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
