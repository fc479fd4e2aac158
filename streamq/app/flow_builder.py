"""How a declared flow is stored and started: in bounded parts, then at once.

Owns the order of the calls. Nothing runs before the last, and the parts of a program that died expire. What
is stored: see `flow_parts`. Does no I/O.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from streamq.app.flow_parts import Declares, Part, parts
from streamq.calls import flows as calls
from streamq.calls import producer as producer_calls
from streamq.calls.call import Arg
from streamq.calls.flows import Committed
from streamq.client.flows import announce, register, reopen
from streamq.errors import OutcomeUnknown
from streamq.flow import Flow, ask, share
from streamq.flows.advancing import Guess, advance
from streamq.flows.flow_id import FlowId, new_local
from streamq.flows.growing import page_of
from streamq.flows.reading import Named
from streamq.keys import FLOW_PAGE, ShardKeys, shard_keys, type_keys
from streamq.registry.registry import Registry
from streamq.shards import shard_of

_TRIES: Final = 5


class Built(NamedTuple):
    """A flow that was started. duplicate: another call has started it, with the same key. last: the nodes
    that no other node waits for, where each is a task."""

    id: FlowId
    duplicate: bool
    last: Mapping[str, Named] | None = None


class Child(NamedTuple):
    """Of a flow that runs for a task: the shard of that, the flow's local id, and what its record says."""

    shard: int
    local: str
    parent: str
    depth: int

    @property
    def record(self) -> Mapping[str, Arg]:
        """What the flow's record says of it."""
        return {"parent": self.parent, "depth": self.depth}


@dataclass(frozen=True, slots=True)
class _Storing:
    """One attempt to store and start a flow. local: its id there; about: what is told with its start."""

    registry: Registry
    s: ShardKeys
    local: str
    declared: Declares
    about: calls.Beginning
    record: Mapping[str, Arg]

    def parts(self) -> Iterator[Part]:
        """Return what is stored, in the parts of one call each."""
        return parts(self.declared, self.about.key, self.record)


def start(registry: Registry, declared: Declares, key: str, child: Child | None = None) -> Flow[Built]:
    """Store a flow and start it; return the one that has the key if there is one."""
    if registry.record is None:
        yield from announce(registry)
    shard = shard_of(key, registry.shards) if key else secrets.randbelow(registry.shards)
    shard = shard if child is None else child.shard
    s = shard_keys(registry.name, shard)
    before, gone = (yield from _holder(s, key)) if key else ("", "")
    if before:
        return Built(FlowId(declared.name, shard, before), duplicate=True)
    yield from _registered(registry, declared, shard)
    local = new_local(round(time.time() * 1000)) if child is None else child.local
    record = {} if child is None else child.record
    for _ in range(_TRIES):
        about = calls.Beginning(key, gone, _number(declared), _letters(declared))
        storing = _Storing(registry, s, local, declared, about, record)
        done = yield from _at_once(storing)
        if done is None:
            done = yield from _in_parts(storing)
        if done.answer == "started":
            return Built(FlowId(declared.name, shard, local), duplicate=False, last=_last(declared))
        if done.answer == "before":
            before, gone = yield from _holder(s, key)
            if before:
                return Built(FlowId(declared.name, shard, before), duplicate=True)
    raise OutcomeUnknown(
        f"flow {declared.name!r} could not be stored: its parts expired before it was started"
    )


def _at_once(one: _Storing) -> Flow[Committed | None]:
    """Store and start a flow in one call; None if it takes several."""
    nodes, first = one.declared.nodes, _first(one.declared)
    if first is None or len(nodes) > FLOW_PAGE or any(node.items is not None for node in nodes):
        return None
    part, *more = one.parts()
    if more:
        return None
    t = type_keys(one.registry.name, one.s.shard, first.type)
    call = calls.start(t, one.s, one.local, part.page, one.about, part.record, part.items)
    done, left = yield from share(call, one.s.shard)
    if done.answer == "closed":
        yield from _reopened(one)
    if left is not None and (left.ready or left.more):
        yield from advance(one.s, one.local, pipeline=one.registry.pipeline)
    return done


def _in_parts(one: _Storing) -> Flow[Committed]:
    """Store a flow part by part, then start it."""
    s, local = one.s, one.local
    pages: dict[str, None] = {}
    for part in one.parts():
        yield from ask(calls.build_part(s, local, part.page, part.record, part.items, running=False))
        pages[s.flow_items(local, part.page)] = None
    done = yield from ask(calls.commit(s, local, *one.about[:3], list(pages), one.about.letters))
    if done.answer == "closed":
        yield from _reopened(one)
    if done.answer == "started":
        yield from advance(s, local, pipeline=one.registry.pipeline, guess=_first(one.declared))
    return done


def _reopened(one: _Storing) -> Flow[None]:
    yield from reopen(one.registry.name, one.s.shard, producer_calls.is_closed(one.s))


def _holder(s: ShardKeys, key: str) -> Flow[tuple[str, str]]:
    """Return the flow that has a key, and one that had it and is gone."""
    found = yield from ask(calls.named(s, key))
    if not found:
        return "", ""
    [state] = yield from ask(calls.record(s, found, ["state"]))
    return (found, "") if state is not None else ("", found)


def _registered(registry: Registry, declared: Declares, shard: int) -> Flow[None]:
    """Register the types of the nodes, once in a process."""
    for name in dict.fromkeys(node.handler.name for node in declared.nodes if node.handler is not None):
        yield from register(registry, name, shard)
        registry.registered.add((name, shard))


def _first(declared: Declares) -> Guess | None:
    """Return who runs first, if these are tasks of one type on one page."""
    roots = [n for n, node in enumerate(declared.nodes) if not node.waits and n != declared.on_failure]
    handlers = [declared.nodes[n].handler for n in roots if declared.nodes[n].kind == "task"]
    first = {(one.name, n // FLOW_PAGE) for n, one in zip(roots, handlers, strict=False) if one is not None}
    if len(first) != 1 or len(handlers) != len(roots):
        return None
    [(name, page)] = first
    return Guess(name, page_of(-1, page))


def _last(declared: Declares) -> Mapping[str, Named] | None:
    """Return the nodes that no other node waits for, by name, if the result of each is that of its task."""
    apart = {declared.on_failure, *(node.undo for node in declared.nodes)}
    found: dict[str, Named] = {}
    for n, node in enumerate(declared.nodes):
        if node.children or n in apart:
            continue
        if node.kind != "task" or node.handler is None or node.handler.expands:
            return None
        found[node.name] = Named(n, n, "task", node.handler.name, range(n, n + 1))
    return found


def _letters(declared: Declares) -> str:
    """Return the states of the declared nodes, if they do not all wait: undo tasks are skipped at first."""
    found = "".join("s" if node.kind == "undo" else "w" for node in declared.nodes)
    return found if "s" in found else ""


def _number(declared: Declares) -> int:
    return len(declared.nodes) + sum(len(node.items or ()) for node in declared.nodes)
