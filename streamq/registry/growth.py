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
from streamq.model.expansion import Child, Expansion, Join
from streamq.model.task import LETTER, NAME_PATTERN, NewTask
from streamq.running_context import in_flow

MOST_TYPES: Final = 64
"""The most task types among the children of one node."""


class Grown(NamedTuple):
    """A child: its task type, the letter of its priority, and its item."""

    type: str
    letter: str
    values: list[bytes]


class Growth(NamedTuple):
    """The children of a node. join: whether the last of them runs behind the others. argument: which of its
    arguments the list of their results is; '' for none."""

    children: list[Grown]
    join: bool
    argument: str


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


def data_of(children: Sequence[Child], join: Join | None = None) -> object:
    """Return children as JSON data."""
    rows = [_row(one) for one in children]
    return rows if join is None else {"c": rows, "j": _row(join.child), "a": join.argument}


def _row(one: Child) -> list[object]:
    return [one.type, *map(_data, values_of(one.task, one.task.payload))]


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


def read(stored: bytes) -> Growth:
    """Return the children that were stored. Raises DecodeError."""
    try:
        data = orjson.loads(stored)
        if isinstance(data, dict):
            rows = [*data["c"], data["j"]]
            return Growth([_grown(row) for row in rows], join=True, argument=str(data["a"]))
        return Growth([_grown(row) for row in data], join=False, argument="")
    except (ValueError, TypeError, LookupError, AttributeError):
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


def joins(hint: object) -> bool:
    """Return whether it returns children with one that joins them."""
    kind = typing.get_origin(hint) or hint
    return expands(hint) and getattr(kind, "JOINS", False) is True


def output_of(hint: object) -> object:
    """Return the type of the node's output."""
    [part] = typing.get_args(hint) or (Any,)
    return part if joins(hint) else types.GenericAlias(list, (part,))


def converter(hint: object) -> Converter:
    """Return the converter for such a result. What is read of it is the node's output."""
    results, joined = compile_result(output_of(hint)), joins(hint)

    def encode(value: object) -> object:
        if not isinstance(value, Expansion):
            raise EncodeError(f"it is a {type(value).__qualname__}: return Expand([...])", wrong_type=True)
        if not in_flow():
            raise EncodeError(
                "the task is no node of a flow: nothing waits for its children. Add it to one, wf.add(...)",
                wrong_type=True,
            )
        if joined != (value.join is not None):
            told = "-> Joined[...]" if value.join is not None else "-> Expand[...], or call then(...) on it"
            raise EncodeError(f"it is a {type(value).__name__}: annotate the handler {told}", wrong_type=True)
        return data_of(value.children, value.join)

    return Converter("Expand", encode, results.read)
