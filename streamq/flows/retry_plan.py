"""What a retry makes of a flow that is over: which of its nodes wait again, and what its record says then.

Owns this choice; the script `flow_again` carries it out, a page at a time. Failures that were none of the
flow's stay, and so does what has lost a race that is decided. Does no I/O: a flow of steps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from streamq.calls import flows as calls
from streamq.calls.flow_again import Plan
from streamq.flow import Flow, ask
from streamq.flows.naming import is_number, parent_of, parsed_maps
from streamq.keys import ShardKeys
from streamq.stored import text

_AT_ONCE: Final = 500
_FIELDS: Final = (
    "generation", "static", "maps", "grown", "order", "tolerant", "races", "undos", "on_failure", "controls",
)  # fmt: skip
_Ranges = Mapping[int, tuple[int, int]]


def plan_of(s: ShardKeys, flow: str, again: Sequence[int]) -> Flow[Plan]:
    """Return the plan of a retry. again: the numbers of nodes that run again besides those that failed."""
    raw = yield from ask(calls.record(s, flow, _FIELDS))
    told = {name: text(one or b"") for name, one in zip(_FIELDS, raw, strict=True)}
    states = yield from ask(calls.states(s, flow))
    ranges = _in_order(parsed_maps(told["maps"].encode()), len(states))
    static = min(calls.counted(raw[1]), len(states))
    chosen = frozenset(node for node in again if node < static)
    grown, gone = yield from _forgotten(s, flow, chosen, ranges, _numbers(told["grown"]), static)
    lost = yield from _lost(s, flow, _numbers(told["races"]), states, chosen)
    letters = bytearray(b"n" * static + b"k" * (len(states) - static))
    _mark(letters, _numbers(told["tolerant"]), b"t", static)
    _mark(letters, lost, b"k", static)
    _mark(letters, chosen, b"a", static)
    _mark(letters, _numbers(told["on_failure"]), b"a", static)
    _mark(letters, _undos(told["undos"]), b"s", static)
    for node, (first, count) in ranges.items():
        letters[first : first + count] = (
            _of_children(_root(node, ranges, static), node, chosen, gone, lost, states) * count
        )
    left = [f" {node}:{first}:{count}" for node, (first, count) in ranges.items() if node not in gone]
    order = [f" {node}" for node in _numbers(told["order"]) if node not in chosen]
    controls = _listed(_controls(told, grown))
    maps, seen = "".join(left), len(raw[4] or b"")
    return Plan(
        calls.counted(raw[0]), letters.decode(), maps, _listed(grown), controls, "".join(order), seen
    )  # fmt: skip


def _numbers(stored: str) -> list[int]:
    return [int(word) for word in stored.split() if is_number(word)]


def _undos(stored: str) -> list[int]:
    return _numbers(" ".join(row.partition(":")[2] for row in stored.split()))


def _listed(numbers: Iterable[int]) -> str:
    return "".join(f" {node}" for node in numbers) + " " if numbers else ""


def _controls(told: Mapping[str, str], grown: Collection[int]) -> list[int]:
    """Return the nodes that have no task: not those that run again, whose children are forgotten."""
    forgotten = {*_numbers(told["grown"])} - {*grown}
    return [node for node in _numbers(told["controls"]) if node not in forgotten]


def _in_order(ranges: _Ranges, nodes: int) -> dict[int, tuple[int, int]]:
    """Return the maps in the order of their children's numbers, without those of a damaged record."""
    sound = [(node, of) for node, of in ranges.items() if sum(of) <= nodes]
    return dict(sorted(sound, key=lambda one: one[1][0]))


def _mark(letters: bytearray, nodes: Iterable[int], letter: bytes, static: int) -> None:
    for node in nodes:
        if node < static:
            letters[node : node + 1] = letter


def _of_children(
    root: int,
    node: int,
    again: Collection[int],
    gone: Collection[int],
    lost: Collection[int],
    states: str,
) -> bytes:
    """Return the plan's letter for the children of a map."""
    if node in gone:
        return b"s"
    if node in again:
        return b"a"
    if root in lost or states[node : node + 1] == "c":  # their failures were none of the flow's
        return b"k"
    return b"n"


def _root(node: int, ranges: _Ranges, static: int) -> int:
    """Return the declared node that a map is, or is in."""
    while node >= static and (of := parent_of(node, ranges)) is not None:
        node = of
    return node


def _forgotten(
    s: ShardKeys, flow: str, again: Collection[int], ranges: _Ranges, grown: Sequence[int], static: int
) -> Flow[tuple[list[int], set[int]]]:
    """Return the nodes that have children by their handlers still, and the maps whose children are made
    anew: those that follow from what others returned, and what these have made in turn."""
    maps = [node for node in ranges if node in again]
    listed = set[int]()
    for n in range(0, len(maps), _AT_ONCE):
        page = maps[n : n + _AT_ONCE]
        raw = yield from ask(calls.record(s, flow, [f"s{node}" for node in page]))
        listed |= {node for node, one in zip(page, raw, strict=True) if one is not None}
    inner = [node for node in {*grown, *ranges} if node >= static]
    left, gone = dict.fromkeys(grown), set[int]()
    waiting = sorted(again)
    while waiting:
        node = waiting.pop()
        made = node in left
        left.pop(node, None)
        if node not in ranges or node in gone:
            continue
        if made or node in listed:
            gone.add(node)
        first, count = ranges[node]
        waiting += [one for one in inner if first <= one < first + count]
    return list(left), gone


def _lost(
    s: ShardKeys, flow: str, races: Iterable[int], states: str, again: Collection[int]
) -> Flow[set[int]]:
    """Return the nodes that ran for the losers of races that are decided, and stay so."""
    decided = [race for race in races if race not in again and states[race : race + 1] == "c"]
    found = set[int]()
    for n in range(0, len(decided), _AT_ONCE):
        page = decided[n : n + _AT_ONCE]
        nodes = yield from ask(calls.record(s, flow, [f"n{race}" for race in page]))
        won = yield from ask(calls.record(s, flow, [f"won{race}" for race in page]))
        for raw, winner in zip(nodes, won, strict=True):
            for racer, alone in _racers(raw):
                if str(racer) != text(winner or b""):
                    found |= {node for node in alone if node not in again}
    return found


def _racers(raw: bytes | None) -> list[tuple[int, list[int]]]:
    """Return of each racer of a race the nodes that run for it alone."""
    try:
        told: Any = orjson.loads(raw or b"{}")
        return [
            (racer, [node for node in alone if isinstance(node, int)])
            for racer, alone in zip(told["a"], told["x"], strict=False)
        ]
    except (ValueError, KeyError, TypeError):
        return []
