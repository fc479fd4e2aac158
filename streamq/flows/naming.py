"""What the record of a flow says of a node: its name, its task, and the map that it is a child of.

Owns the reading of these. What is damaged has no task. Does no I/O: flows of steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from streamq.calls import flows as calls
from streamq.flow import Flow, ask
from streamq.flows.flow_id import task_of
from streamq.flows.growing import FIRST_KIND
from streamq.keys import ShardKeys
from streamq.model.task import NAME_PATTERN, TaskId
from streamq.payloads.pipeline import SEALED, opened
from streamq.payloads.stage import About
from streamq.stored import text

_NUMBER: Final = re.compile("[0-9]{1,9}")


def is_number(word: str) -> bool:
    """Return whether a stored text is the number of a node, or of nodes."""
    return _NUMBER.fullmatch(word) is not None


def maps(s: ShardKeys, flow: str) -> Flow[dict[int, tuple[int, int]]]:
    """Return of each map whose list is known the number of its first child and of its children."""
    [raw] = yield from ask(calls.record(s, flow, ["maps"]))
    return parsed_maps(raw)


def parsed_maps(raw: bytes | None) -> dict[int, tuple[int, int]]:
    """Return the same from a flow's record."""
    found: dict[int, tuple[int, int]] = {}
    for row in text(raw or b"").split():
        parts = row.split(":")
        # The children of a node have greater numbers than it.
        if len(parts) == 3 and all(map(is_number, parts)) and int(parts[0]) < int(parts[1]):
            found[int(parts[0])] = (int(parts[1]), int(parts[2]))
    return found


def task_id(
    s: ShardKeys, flow: str, number: int, ranges: Mapping[int, tuple[int, int]]
) -> Flow[TaskId | None]:
    """Return the id of a node's task; None if it has none, or the record is damaged."""
    return (yield from named_task(s, flow, number, ranges))[1]


def named_task(
    s: ShardKeys, flow: str, number: int, ranges: Mapping[int, tuple[int, int]]
) -> Flow[tuple[str, TaskId | None]]:
    """Return a node's name, that of a child with its place in the map, and the id of its task."""
    of = parent_of(number, ranges)
    name, kind = yield from _declared(s, flow, number if of is None else of, ranges)
    if of is not None:
        place = number - ranges[of][0]
        name, kinds = f"{name}[{place}]", (yield from children_kinds(s, flow, of))
        if kinds is not None:
            kind = kinds[place] if place < len(kinds) else ("", "")
    task_type, letter = kind
    if not NAME_PATTERN.fullmatch(task_type) or letter not in ("h", "n", "l"):
        return name, None
    return name, TaskId(task_type, s.shard, task_of(flow, letter, number))


def parent_of(number: int, ranges: Mapping[int, tuple[int, int]]) -> int | None:
    """Return the node that a node is a child of; None if it was declared."""
    return next((node for node, (first, count) in ranges.items() if first <= number < first + count), None)


def _declared(
    s: ShardKeys, flow: str, number: int, ranges: Mapping[int, tuple[int, int]]
) -> Flow[tuple[str, tuple[str, str]]]:
    """Return a node's name, and the type and the letter of its task, or of those of its children."""
    if parent_of(number, ranges) is not None:
        name, task = yield from named_task(s, flow, number, ranges)
        return name, ("", "") if task is None else (task.type, task.local[:1])
    [raw] = yield from ask(calls.record(s, flow, [f"n{number}"]))
    try:
        told: Any = orjson.loads(raw or b"")
        return str(told["m"]), (str(told.get("t", "")), str(told.get("l", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return str(number), ("", "")


def children_kinds(s: ShardKeys, flow: str, node: int) -> Flow[list[tuple[str, str]] | None]:
    """Return of the children that a node's handler has returned the types and the letters of their tasks;
    None if it has returned none."""
    types, each = yield from ask(calls.record(s, flow, [f"kt{node}", f"kc{node}"]))
    if types is None:
        return None
    try:
        kinds = [(str(name), str(letter)) for name, letter in orjson.loads(types)]
        return [kinds[byte - FIRST_KIND] for byte in each or b""]
    except (ValueError, IndexError, TypeError):
        return []


def opened_result(
    s: ShardKeys, flow: str, number: int, stored: bytes, ranges: Mapping[int, tuple[int, int]]
) -> Flow[bytes]:
    """Return the JSON of a node's result. Raises DecodeError, and NoKey."""
    if stored[:1] != SEALED:
        return stored
    _, task = yield from named_task(s, flow, number, ranges)
    return opened(
        stored, about_signal(s, flow) if task is None else About(s.app, task.type, "result", str(task))
    )


def about_signal(s: ShardKeys, flow: str) -> About:
    """Return what the value of a flow's signal is."""
    return About(s.app, "flow", "signal", flow)
