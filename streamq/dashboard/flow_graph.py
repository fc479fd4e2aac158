"""The picture of a flow: where its boxes are, and the lines between them.

Owns the layout: a row for each depth, from the top, in as many columns as there is room for. Builds numbers
and texts only; a template makes the SVG of them. Must not know HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from streamq.flows.folding import MARKS, Box, in_words
from streamq.flows.reading import NodeState

HEIGHT: Final = 58
_GAP: Final = 14
_DOWN: Final = 34
_EDGE: Final = 2
"""Room for the borders of the outermost boxes."""
_LETTER: Final = 8.0
"""About the width of a letter, in pixels."""


class Room(NamedTuple):
    """What a screen has room for: columns, and the width of each in pixels."""

    name: str
    columns: int
    width: int


ROOMS: Final = (Room("wide", 6, 190), Room("phone", 2, 156))
"""The pictures of a flow, of which a page shows that which fits."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A box as it is drawn: its place, its texts, and where it leads: its task, or the children of a map, ''
    for neither. whole: its texts in full, for a tooltip. earlier: it also waits for nodes that are not drawn.
    """

    x: int
    y: int
    width: int
    title: str
    told: str
    whole: str
    state: NodeState
    mark: str
    task: str
    map: str
    several: bool
    earlier: bool
    on_path: bool


@dataclass(frozen=True, slots=True)
class Edge:
    """A line from one box to another, as the data of an SVG path."""

    line: str
    on_path: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """The picture of a flow for one room."""

    name: str
    width: int
    height: int
    tiles: list[Tile]
    edges: list[Edge]


def pictures(boxes: Sequence[Box], path: Iterable[str]) -> list[Picture]:
    """Return the pictures of these boxes, one for each room. path: the names of nodes whose way is marked."""
    marked = frozenset(path)
    return [_picture(boxes, marked, room) for room in ROOMS]


def _picture(boxes: Sequence[Box], marked: frozenset[str], room: Room) -> Picture:
    places = _places(boxes, room)
    tiles = [_tile(box, *places[id(box)], marked, room) for box in boxes]
    edges = [
        _edge(places[id(one)], places[id(box)], one, box, marked, room) for box in boxes for one in box.waits
    ]
    width = max((tile.x + room.width for tile in tiles), default=0) + _EDGE
    height = max((tile.y + HEIGHT for tile in tiles), default=0) + _EDGE
    edges.sort(key=lambda edge: edge.on_path)  # what is marked is drawn above the others
    return Picture(room.name, width, height, tiles, edges)


def _places(boxes: Sequence[Box], room: Room) -> dict[int, tuple[int, int]]:
    """Return where each box is. In a row they are in the order of those that they wait for, above them."""
    places: dict[int, tuple[int, int]] = {}
    widest = min(room.columns, max((len(list(row)) for _, row in _rows(boxes)), default=0))
    y = _EDGE
    for _, row in _rows(boxes):
        ordered = sorted(row, key=lambda box: _middle(box, places))
        for n in range(0, len(ordered), room.columns):
            line = ordered[n : n + room.columns]
            aside = (widest - len(line)) * (room.width + _GAP) // 2
            for at, box in enumerate(line):
                places[id(box)] = _EDGE + aside + at * (room.width + _GAP), y
            y += HEIGHT + _GAP
        y += _DOWN - _GAP
    return places


def _rows(boxes: Sequence[Box]) -> Iterable[tuple[int, Iterable[Box]]]:
    return groupby(boxes, key=lambda box: box.depth)


def _middle(box: Box, places: Mapping[int, tuple[int, int]]) -> float:
    above = [places[id(one)][0] for one in box.waits if id(one) in places]
    return sum(above) / len(above) if above else 0.0


def _tile(box: Box, x: int, y: int, marked: frozenset[str], room: Room) -> Tile:
    first, told = box.nodes[0], in_words(box)
    several, has_children = len(box.nodes) > 1, first.kind == "map" or bool(first.children)
    task = first.task if not several and first.state not in ("waiting", "skipped") else ""
    return Tile(
        x, y, room.width, _cut(box.name, room.width - 46), _cut(told, room.width - 26),
        f"{box.name}: {told}" + (f", of {box.type}" if box.type and box.type != box.name else ""),
        box.state, MARKS[box.state], task, first.name if has_children else "",
        several or has_children, box.earlier, any(one.name in marked for one in box.nodes),
    )  # fmt: skip


def _edge(
    begin: tuple[int, int], end: tuple[int, int], of: Box, to: Box, marked: frozenset[str], room: Room
) -> Edge:
    x1, y1 = begin[0] + room.width // 2, begin[1] + HEIGHT
    x2, y2 = end[0] + room.width // 2, end[1]
    bend = max(12, (y2 - y1) // 2)
    on_path = _along(of, marked) and _along(to, marked)
    return Edge(f"M{x1},{y1}C{x1},{y1 + bend} {x2},{y2 - bend} {x2},{y2}", on_path)


def _along(box: Box, marked: frozenset[str]) -> bool:
    return any(one.name in marked for one in box.nodes)


def _cut(text: str, width: float) -> str:
    most = max(4, int(width / _LETTER))
    return text if len(text) <= most else text[: most - 1] + "…"
