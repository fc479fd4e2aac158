"""How a declared flow is stored and started: in bounded parts, then at once.

Owns what stands in a flow's record and in its items; `lua/lib/flow_open.lua` and `lua/flow_release.lua`
read it. Nothing runs before the last call, and the parts of a program that died expire. Does no I/O.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from streamq.calls import flows as calls
from streamq.calls import producer as producer_calls
from streamq.calls.call import Arg
from streamq.calls.flows import Committed, Item
from streamq.client.flows import announce, register, reopen
from streamq.errors import OutcomeUnknown, ServerError
from streamq.flow import Flow, ask, share
from streamq.flows.advancing import Guess, advance
from streamq.flows.flow_id import FlowId, new_local
from streamq.flows.growing import page_of
from streamq.flows.reading import Named, NodeKind
from streamq.keys import FLOW_PAGE, ShardKeys, shard_keys, type_keys
from streamq.model.task import LETTER, NewTask
from streamq.registry.growth import values_of
from streamq.registry.handler import Handler
from streamq.registry.registry import Registry
from streamq.shards import shard_of

_MOST_BYTES: Final = 1_048_576
"""Bytes of one call, unless a single node has more."""
_TRIES: Final = 5
CONTROLS: Final = frozenset({"map", "sleep", "wait", "first"})
"""The kinds of nodes without a task of their own."""


@dataclass(slots=True)
class Declared:
    """A node. handler, task: None for one without a task, of which `more` says what it is, as it stands in
    the record. waits: the nodes that it waits for. tail: what it needs of them, as `flows.needs` writes it.
    undo: the number of the node that undoes it. source: the node whose list a map goes over; items: the
    payloads of its children if that is a list of the program; argument: which the item is."""

    name: str
    handler: Handler | None
    kind: NodeKind
    waits: list[int]
    task: NewTask | None
    tail: str
    tolerated: bool
    more: Mapping[str, object] = field(default_factory=dict[str, object])
    undo: int | None = None
    source: int | None = None
    argument: str = ""
    items: list[bytes] | None = None
    children: list[int] = field(default_factory=list[int])


class Declares(NamedTuple):
    """A flow: its name, its nodes, and the number of the one that runs if it fails."""

    name: str
    nodes: Sequence[Declared]
    on_failure: int | None
    fail_fast: bool


class Built(NamedTuple):
    """A flow that was started. duplicate: another call has started it, with the same key. last: the nodes
    that no other node waits for, where each is a task."""

    id: FlowId
    duplicate: bool
    last: Mapping[str, Named] | None = None


class _Part(NamedTuple):
    """What one call stores."""

    page: str
    record: Mapping[str, Arg]
    items: Sequence[Item]


class Child(NamedTuple):
    """Of a flow that runs for a task: the shard of that, the flow's local id, and what its record says."""

    shard: int
    local: str
    parent: str
    depth: int


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
    for _ in range(_TRIES):
        about = calls.Beginning(key, gone, _number(declared), _letters(declared))
        done = yield from _at_once(registry, s, local, declared, about, child)
        if done is None:
            done = yield from _in_parts(registry, s, local, declared, about, child)
        if done.answer == "started":
            return Built(FlowId(declared.name, shard, local), duplicate=False, last=_last(declared))
        if done.answer == "before":
            before, gone = yield from _holder(s, key)
            if before:
                return Built(FlowId(declared.name, shard, before), duplicate=True)
    raise OutcomeUnknown(
        f"flow {declared.name!r} could not be stored: its parts expired before it was started"
    )


def _at_once(
    registry: Registry,
    s: ShardKeys,
    local: str,
    declared: Declares,
    about: calls.Beginning,
    child: Child | None,
) -> Flow[Committed | None]:
    """Store and start a flow in one call; None if it takes several."""
    first = _first(declared)
    if (
        first is None
        or len(declared.nodes) > FLOW_PAGE
        or any(node.items is not None for node in declared.nodes)
    ):
        return None
    part, *more = _parts(declared, about.key, child)
    if more:
        return None
    t = type_keys(registry.name, s.shard, first.type)
    try:
        call = calls.start(t, s, local, part.page, about, part.record, part.items)
        done, left = yield from share(call, s.shard)
    except ServerError:  # keys of that type are damaged: they do not keep the flow from its start
        return None
    if done.answer == "closed":
        yield from reopen(registry.name, s.shard, producer_calls.is_closed(s))
    if left is not None and (left.ready or left.more):
        yield from advance(s, local, pipeline=registry.pipeline)
    return done


def _in_parts(
    registry: Registry,
    s: ShardKeys,
    local: str,
    declared: Declares,
    about: calls.Beginning,
    child: Child | None,
) -> Flow[Committed]:
    """Store a flow part by part, then start it."""
    pages: dict[str, None] = {}
    for part in _parts(declared, about.key, child):
        call = calls.build_part(s, local, part.page, part.record, part.items, running=False)
        yield from ask(call)
        pages[s.flow_items(local, part.page)] = None
    done = yield from ask(calls.commit(s, local, *about[:3], list(pages), about.letters))
    if done.answer == "closed":
        yield from reopen(registry.name, s.shard, producer_calls.is_closed(s))
    if done.answer == "started":
        yield from advance(s, local, pipeline=registry.pipeline, guess=_first(declared))
    return done


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


# -- what is stored ------------------------------------------------------------------------------------


def _parts(declared: Declares, key: str, child: Child | None) -> Iterator[_Part]:
    """Yield what is to be stored, in calls of bounded size."""
    nodes = declared.nodes
    for node in nodes:
        node.children = []
    for number, node in enumerate(nodes):
        for parent in node.waits:
            nodes[parent].children.append(number)
    races = {number: _alone(nodes, number) for number, node in enumerate(nodes) if node.kind == "first"}
    record = _head(declared, key)
    if child is not None:
        record |= {"parent": child.parent, "depth": child.depth}
    for page in range(0, len(nodes), FLOW_PAGE):
        rows = list(enumerate(nodes[page : page + FLOW_PAGE], page))
        for number, node in rows:
            record |= _fields(number, node, races.get(number))
        items = [Item(number, _values(node)) for number, node in rows if node.kind in ("task", "undo")]
        yield from _sized(page_of(-1, page // FLOW_PAGE), items, record)
        record = {}
    for number, node in enumerate(nodes):
        items = [Item(n, (payload,)) for n, payload in enumerate(node.items or ())]
        for n in range(0, len(items), FLOW_PAGE):
            yield from _sized(page_of(number, n // FLOW_PAGE), items[n : n + FLOW_PAGE])


def _sized(page: str, items: Sequence[Item], record: Mapping[str, Arg] | None = None) -> Iterator[_Part]:
    """Yield the items of a page, and fields of the record, in calls of bounded size."""
    fields = record or {}
    part: list[Item] = []
    size = 0
    for item in items:
        more = sum(len(value) for value in item.values if not isinstance(value, int))
        if part and size + more > _MOST_BYTES:
            yield _Part(page, fields, part)
            part, size, fields = [], 0, {}
        part.append(item)
        size += more
    if part or fields:
        yield _Part(page, fields, part)


def _head(declared: Declares, key: str) -> dict[str, Arg]:
    """Return what the record says of the flow as a whole."""
    nodes = declared.nodes
    apart = {declared.on_failure, *(node.undo for node in nodes)}  # they run only where the flow fails
    roots = [n for n, node in enumerate(nodes) if not node.waits and n not in apart]
    last = [n for n, node in enumerate(nodes) if not node.children and n not in apart]
    first, maps = len(nodes), list[str]()
    for number, node in enumerate(nodes):
        if node.items is not None:
            maps.append(f"{number}:{first}:{len(node.items)}")
            first += len(node.items)
    return {
        "name": declared.name,
        "key": key,
        "static": len(nodes),
        "todo": " ".join(map(str, roots)),
        "last": " ".join(map(str, last)),
        "maps": " ".join(maps),
        "controls": " ".join(str(n) for n, node in enumerate(nodes) if node.kind in CONTROLS),
        "races": " ".join(str(n) for n, node in enumerate(nodes) if node.kind == "first"),
        "awaits": _between("\0", [str(node.more["g"]) for node in nodes if node.kind == "wait"]),
        "tolerant": " ".join(str(n) for n, node in enumerate(nodes) if node.tolerated),
        "undos": " ".join(f"{n}:{node.undo}" for n, node in enumerate(nodes) if node.undo is not None),
        "on_failure": "" if declared.on_failure is None else declared.on_failure,
        "fail_fast": int(declared.fail_fast),
    }


def _between(mark: str, names: Sequence[str]) -> str:
    return mark + mark.join(dict.fromkeys(names)) + mark if names else ""


def _alone(nodes: Sequence[Declared], race: int) -> list[list[int]]:
    """Return for each node that takes part in a race the nodes that run for it alone, itself among them."""
    found: list[list[int]] = []
    for racer in nodes[race].waits:
        alone = {racer}
        for number in range(racer - 1, -1, -1):
            children = nodes[number].children
            if children and alone.issuperset(children):
                alone.add(number)
        found.append(sorted(alone))
    return found


def _fields(number: int, node: Declared, alone: list[list[int]] | None) -> dict[str, Arg]:
    """Return what the record says of a node. alone: of a race, who runs for each that takes part."""
    told: dict[str, object] = {"m": node.name, **node.more}
    if node.handler is not None and node.task is not None:
        told |= {"t": node.handler.name, "l": LETTER[node.task.priority]}
    if alone is not None:
        told["x"] = alone
    if node.waits:
        told["a"] = node.waits
    if node.tolerated:
        told["c"] = True
    if node.kind != "task":
        told["k"] = node.kind
    if node.undo is not None:
        told["u"] = node.undo
    found: dict[str, Arg] = {f"n{number}": orjson.dumps(told)}
    if node.children:
        found[f"d{number}"] = " ".join(map(str, node.children))
    if node.kind == "map" and node.task is not None:
        found[f"c{number}"] = orjson.dumps([_plain(value) for value in _values(node)])
        if node.source is not None:
            found |= {f"s{number}": node.source, f"i{number}": node.argument, f"f{number}": node.task.payload}
    return found


def _plain(value: Arg) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _values(node: Declared) -> list[Arg]:
    """Return an item as `flow_release` reads it. The payload of a map's call is that of its children."""
    if node.task is None:
        return []
    return values_of(node.task, b"" if node.kind == "map" else node.task.payload, node.tail)
