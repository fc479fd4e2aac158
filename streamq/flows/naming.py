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
        if len(parts) == 3 and all(map(is_number, parts)):
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
    of = next((node for node, (first, count) in ranges.items() if first <= number < first + count), number)
    [raw] = yield from ask(calls.record(s, flow, [f"n{of}"]))
    try:
        told: Any = orjson.loads(raw or b"")
        name, task_type, letter = told["m"], told["t"], told["l"]
    except (ValueError, KeyError, TypeError):
        return str(number), None
    if of != number:
        name = f"{name}[{number - ranges[of][0]}]"
    if not NAME_PATTERN.fullmatch(str(task_type)) or letter not in ("h", "n", "l"):
        return str(name), None
    return str(name), TaskId(str(task_type), s.shard, task_of(flow, letter, number))


def opened_result(
    s: ShardKeys, flow: str, number: int, stored: bytes, ranges: Mapping[int, tuple[int, int]]
) -> Flow[bytes]:
    """Return the JSON of a node's result. Raises DecodeError, and NoKey."""
    if stored[:1] != SEALED:
        return stored
    _, task = yield from named_task(s, flow, number, ranges)
    about = None if task is None else About(s.app, task.type, "result", str(task))
    return opened(stored, about)
