"""What a declared flow is, and what is stored of it.

Owns what stands in a flow's record and in its items; `lua/lib/flow_open.lua` and `lua/lib/flow_run.lua` read
it. Does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from streamq.calls.call import Arg
from streamq.calls.flows import Item
from streamq.flows.growing import page_of
from streamq.flows.reading import NodeKind
from streamq.keys import FLOW_PAGE
from streamq.model.task import LETTER, NewTask
from streamq.registry.growth import values_of
from streamq.registry.handler import Handler

_MOST_BYTES: Final = 1_048_576
"""Bytes of one call, unless a single node has more."""
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


class Part(NamedTuple):
    """What one call stores."""

    page: str
    record: Mapping[str, Arg]
    items: Sequence[Item]


def parts(declared: Declares, key: str, more: Mapping[str, Arg]) -> Iterator[Part]:
    """Yield what is to be stored, in calls of bounded size. more: what the record says besides."""
    nodes = declared.nodes
    for node in nodes:
        node.children = []
    for number, node in enumerate(nodes):
        for parent in node.waits:
            nodes[parent].children.append(number)
    races = {number: _alone(nodes, number) for number, node in enumerate(nodes) if node.kind == "first"}
    record = {**_head(declared, key), **more}
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


def _sized(page: str, items: Sequence[Item], record: Mapping[str, Arg] | None = None) -> Iterator[Part]:
    """Yield the items of a page, and fields of the record, in calls of bounded size."""
    fields = record or {}
    part: list[Item] = []
    size = 0
    for item in items:
        more = sum(len(value) for value in item.values if not isinstance(value, int))
        if part and size + more > _MOST_BYTES:
            yield Part(page, fields, part)
            part, size, fields = [], 0, {}
        part.append(item)
        size += more
    if part or fields:
        yield Part(page, fields, part)


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
