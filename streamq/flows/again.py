"""A retry, a page of nodes at a time; and which nodes run again in it besides those that failed: those that
are named, those that were undone, and all that wait for them.

Owns this choice, and the order of the calls: a daemon goes on if the caller dies. Does no I/O: a flow of
steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from streamq.calls import flow_again
from streamq.calls import flows as calls
from streamq.calls.flow_again import GO_ON, Again, Plan
from streamq.calls.producer import NO_NOTE
from streamq.errors import UnknownFlow, UsageError
from streamq.flow import Flow, ask
from streamq.flows import reading
from streamq.flows.naming import is_number
from streamq.keys import ShardKeys
from streamq.model.reply import Note
from streamq.stored import text

_AT_ONCE: Final = 500


def wait_again(s: ShardKeys, flow: str, plan: Plan = GO_ON, note: Note = NO_NOTE) -> Flow[Again]:
    """Let the nodes of a flow wait again, as planned now or by an earlier retry that did not end. Returns its
    state before; left is 0 if it runs now, or -1 if there is no plan for it."""
    done = yield from ask(flow_again.again(s, flow, plan, note))
    while done.left > 0:
        more = yield from ask(flow_again.again(s, flow))
        if more.left < 0:  # somebody else has done the rest
            return Again(done.state, 0)
        done = more
    return done


def run_again(s: ShardKeys, flow: str, start: Sequence[str]) -> Flow[list[int]]:
    """Return the numbers of these nodes. start: the names of some. Raises UsageError for an unknown one."""
    found = (yield from _named(s, flow, start)) if start else []
    found += yield from _undone(s, flow)
    seen = dict.fromkeys(found)
    while found:
        found = [n for n in (yield from _waiting_for(s, flow, found)) if n not in seen]
        seen |= dict.fromkeys(found)
    return list(seen)


def _named(s: ShardKeys, flow: str, names: Sequence[str]) -> Flow[list[int]]:
    listed = yield from reading.nodes(s, flow)
    if not listed:
        raise UnknownFlow(f"there is no flow {flow}, or it ended so long ago that it is no longer stored")
    numbers = {one.name: one.number for one in listed if one.kind != "undo"}
    for name in names:
        if name not in numbers:
            raise UsageError(f"the flow has no node {name!r:.80}; it has: {', '.join(list(numbers)[:20])}")
    return [numbers[name] for name in names]


def _undone(s: ShardKeys, flow: str) -> Flow[list[int]]:
    """Return the nodes whose undo task has completed."""
    [raw] = yield from ask(calls.record(s, flow, ["undos"]))
    if not raw:
        return []
    states = yield from ask(calls.states(s, flow))
    pairs = [row.split(":") for row in text(raw).split()]
    good = [(int(one[0]), int(one[1])) for one in pairs if len(one) == 2 and all(map(is_number, one))]
    return [node for node, undo in good if states[undo : undo + 1] == "c"]


def _waiting_for(s: ShardKeys, flow: str, nodes: Sequence[int]) -> Flow[Iterable[int]]:
    found: dict[int, None] = {}
    for n in range(0, len(nodes), _AT_ONCE):
        raw = yield from ask(calls.record(s, flow, [f"d{node}" for node in nodes[n : n + _AT_ONCE]]))
        for row in raw:
            found |= dict.fromkeys(int(word) for word in text(row or b"").split() if is_number(word))
    return found
