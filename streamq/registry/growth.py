"""The children of a flow's node as they travel with its settlement, and as items of its flow.

Owns both forms: an item is what `lua/flow_release.lua` reads. Who cuts the children into items reads no
payload, so that sealed ones stay sealed. Asks no server.
"""

from __future__ import annotations

import base64
import types
import typing
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from streamq import joining
from streamq.convert.compile import result as compile_result
from streamq.convert.converter import Converter, EncodeError
from streamq.errors import DecodeError
from streamq.features import FLOWS, needing
from streamq.model.expansion import Child, Expansion
from streamq.model.task import LETTER, NAME_PATTERN, NewTask
from streamq.running_context import in_flow

MOST_TYPES: Final = 64
"""The most task types among the children of one node."""


class Grown(NamedTuple):
    """A child: its task type, the letter of its priority, and its item."""

    type: str
    letter: str
    values: list[bytes]


def values_of(task: NewTask, payload: bytes, tail: str = "") -> list[bytes | str | int]:
    """Return a task as an item. tail: what it needs of other nodes, as `flows.needs` writes it."""
    head = LETTER[task.priority]
    if task.due is not None:
        head += f"{'@' if task.absolute else '+'}{task.due}"
    told = joining.parts(task.joins)
    lane, cost = str(told.get("lane", "")), str(told.get("cost", ""))
    if "lane" in told and not lane:
        lane = "\1"
    values: list[bytes | str | int] = [head, payload, tail, lane, cost]
    for name, value in needing(task.fields, FLOWS):
        values += (name, value)
    return values


def data_of(children: Sequence[Child]) -> list[object]:
    """Return children as JSON data."""
    return [[one.type, *map(_data, values_of(one.task, one.task.payload))] for one in children]


def _data(value: bytes | str | int) -> object:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:  # it is sealed
        return [base64.b64encode(value).decode()]


def written(children: Sequence[Child]) -> bytes:
    """Return children as they are stored with the end of their node."""
    return orjson.dumps(data_of(children))


def read(stored: bytes) -> list[Grown]:
    """Return the children that were stored. Raises DecodeError."""
    try:
        return [_grown(row) for row in orjson.loads(stored)]
    except (ValueError, TypeError, IndexError, AttributeError):
        raise DecodeError("the children that a node has returned are damaged") from None


def _grown(row: Any) -> Grown:
    name, values = str(row[0]), [_bytes(one) for one in row[1:]]
    letter = values[0][:1].decode("ascii")
    if not NAME_PATTERN.fullmatch(name) or letter not in LETTER.values() or len(values) < 5:
        raise ValueError
    return Grown(name, letter, values)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return base64.b64decode(value[0])


def expands(hint: object) -> bool:
    """Return whether a handler with this annotation of its result returns children."""
    kind = typing.get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Expansion)


def converter(hint: object) -> Converter:
    """Return the converter for such a result. What is read of it is the list of the children's results."""
    parts = typing.get_args(hint)
    results = compile_result(types.GenericAlias(list, parts or (Any,)))

    def encode(value: object) -> object:
        if not isinstance(value, Expansion):
            raise EncodeError(f"it is a {type(value).__qualname__}: return Expand([...])", wrong_type=True)
        if not in_flow():
            raise EncodeError(
                "the task is no node of a flow: nothing waits for its children. Add it to one, wf.add(...)",
                wrong_type=True,
            )
        return data_of(value.children)

    return Converter("Expand", encode, results.read)
