"""Draw the nodes of a flow together in few boxes, so that a picture of thousands can be read.

Owns which nodes share a box, and in what depth a box is. Pure: knows neither pictures nor terminals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from streamq.flows.reading import NodeInfo, NodeState

MOST: Final = 40
"""Boxes of one picture."""
_FOLDED: Final = 3
"""The fewest nodes that share a box."""
ORDER: Final[tuple[NodeState, ...]] = (
    "dead", "expired", "cancelled", "released", "ready", "waiting", "skipped", "completed", "unknown",
)  # fmt: skip
"""The states, that which says most of a box of several nodes first."""
MARKS: Final[Mapping[NodeState, str]] = {
    "dead": "✕", "expired": "✕", "cancelled": "✕", "released": "●", "ready": "●", "waiting": "○",
    "skipped": "\N{EN DASH}", "completed": "✓", "unknown": "?",
}  # fmt: skip


@dataclass(slots=True)
class Box:
    """One node, or several of one type: side by side, or in a row, one after the other. counts: of its nodes
    or children, by state; empty for one task. waits: the boxes that it waits for. depth: how many boxes are
    above it, at most. earlier: whether it also waits for nodes that are not drawn."""

    name: str
    type: str
    state: NodeState
    nodes: list[NodeInfo]
    counts: dict[NodeState, int] = field(default_factory=dict[NodeState, int])
    waits: list[Box] = field(default_factory=list["Box"])
    depth: int = 0
    earlier: bool = False


def folded(nodes: Sequence[NodeInfo], alone: Iterable[str] = (), most: int = MOST) -> list[Box]:
    """Return at most `most` boxes for the first of these nodes, those above before those below. alone: names
    of nodes that share no box."""
    lonely = {*alone, *(one.name for one in nodes if one.children or one.kind != "task")}
    depths, runs = _depths(nodes), _runs(nodes, lonely)
    ways: list[Callable[[NodeInfo], Hashable]] = [
        lambda one: one.name,
        lambda one: runs.get(one.name) or (one.type, depths[one.name], tuple(one.waits)),
        lambda one: runs.get(one.name) or (one.type, depths[one.name]),
    ]
    groups: list[list[NodeInfo]] = []
    for way in ways:
        groups = _grouped(nodes, way, lonely)
        if len(groups) <= most:
            break
    return _boxes(groups[:most])


def visible(nodes: Iterable[NodeInfo]) -> list[NodeInfo]:
    """Return the nodes without undo tasks that never ran."""
    return [one for one in nodes if one.kind != "undo" or one.state not in ("waiting", "skipped")]


def drawn(boxes: Iterable[Box]) -> int:
    """Return how many declared nodes are in these boxes."""
    return sum(len(box.nodes) for box in boxes)


def _depths(nodes: Iterable[NodeInfo]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in nodes:  # a node waits for earlier ones only
        found[one.name] = 1 + max((found[name] for name in one.waits if name in found), default=-1)
    return found


def _runs(nodes: Sequence[NodeInfo], lonely: set[str]) -> dict[str, str]:
    """Return for nodes of one type that follow one another, without a branch, the first of their row."""
    followers = Counter(name for one in nodes for name in one.waits)
    by_name, first = {one.name: one for one in nodes}, dict[str, str]()
    for one in nodes:
        before = by_name.get(one.waits[0]) if len(one.waits) == 1 else None
        goes_on = before is not None and before.type == one.type and followers[before.name] == 1
        if before is not None and goes_on and not {one.name, before.name} & lonely:
            first[one.name] = first.setdefault(before.name, before.name)
    return first


def _grouped(
    nodes: Iterable[NodeInfo], way: Callable[[NodeInfo], Hashable], lonely: set[str]
) -> list[list[NodeInfo]]:
    found: dict[Hashable, list[NodeInfo]] = {}
    for one in nodes:
        key = (one.name,) if one.name in lonely else (way(one), one.kind)
        found.setdefault(key, []).append(one)
    groups: list[list[NodeInfo]] = []
    for group in found.values():
        groups += [group] if len(group) >= _FOLDED else [[one] for one in group]
    return groups


def _boxes(groups: Iterable[list[NodeInfo]]) -> list[Box]:
    found = [_box(group) for group in groups]
    by_name = {one.name: box for box in found for one in box.nodes}
    for box in found:
        names = dict.fromkeys(name for one in box.nodes for name in one.waits)
        box.earlier = any(name not in by_name for name in names)
        others = {id(other): other for name in names if (other := by_name.get(name, box)) is not box}
        box.waits = list(others.values())
    depths: dict[int, int] = {}
    for box in found:
        box.depth = _depth(box, depths)
    return sorted(found, key=lambda box: box.depth)


def _depth(box: Box, known: dict[int, int]) -> int:
    """Return how many boxes are above one. There is no circle unless stored data is damaged: nodes of one box
    are of one depth, or a row that others only enter at its first and leave at its last."""
    if id(box) not in known:
        known[id(box)] = 0
        known[id(box)] = 1 + max((_depth(one, known) for one in box.waits), default=-1)
    return known[id(box)]


def _box(group: list[NodeInfo]) -> Box:
    first = group[0]
    if len(group) > 1:
        counts = Counter[NodeState](one.state for one in group)
        row = " in a row" if first.name in group[1].waits else ""
        name = f"{first.type} \N{MULTIPLICATION SIGN} {len(group):,}{row}"
        return Box(name, first.type, telling(counts), group, dict(counts))
    counts = Counter[NodeState](first.children)
    state = telling(counts) if counts and first.state != "completed" else first.state
    name = f"{first.name} \N{MULTIPLICATION SIGN} {sum(counts.values()):,}" if counts else first.name
    return Box(name, first.type, state, [first], dict(counts))


def telling(counts: Mapping[NodeState, int]) -> NodeState:
    """Return the state that says most of several nodes."""
    for state in ORDER:
        if counts.get(state):
            return state
    return "unknown"


def in_words(box: Box) -> str:
    """Return the state of a box: `completed`, or `9,990 completed, 10 dead`."""
    told = [f"{box.counts[state]:,} {state}" for state in ORDER if box.counts.get(state)]
    return ", ".join(told) if len(told) > 1 else box.state
