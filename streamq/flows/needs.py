"""What a node needs of others: the form in which its task names them, and how their results become arguments.

Owns the field `y` of an envelope: the flow's local id, /, the node's number, and if it needs anything / and a
JSON object: by argument the number of a node, a list of numbers, {"m": number} for the results of a map (with
"n": of so many of its children), {"c": number} for those of its children that have completed, or {"e": 1} for
the failure of the flow.
Asks no server.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from streamq.errors import DecodeError

MOST_BYTES: Final = 8_388_608
"""The most bytes of results that are handed to one node."""


class OfMap(NamedTuple):
    """The results of the children of a map, in order. first: of so many of them; None for all."""

    node: int
    first: int | None = None


class OfCompleted(NamedTuple):
    """The results of those children of a map that have completed, in order: for the task that undoes it."""

    node: int


class OfFailure(NamedTuple):
    """Why the flow failed."""


Need = int | list[int] | OfMap | OfCompleted | OfFailure
"""A node, several of them, the children of a map or those that have completed, or the failure of the flow."""
Needs = Mapping[str, Need]
"""By argument."""


class NodeOf(NamedTuple):
    """A task as a node: its flow's local id, its number, and what it needs."""

    flow: str
    number: int
    needs: Needs


def written(needs: Needs) -> str:
    """Return what a node needs as it stands behind its number; '' for nothing."""
    if not needs:
        return ""
    return "/" + orjson.dumps({name: _data(one) for name, one in needs.items()}).decode()


def _data(one: Need) -> object:
    if isinstance(one, OfMap):
        return {"m": one.node} if one.first is None else {"m": one.node, "n": one.first}
    if isinstance(one, OfCompleted):
        return {"c": one.node}
    return {"e": 1} if isinstance(one, OfFailure) else one


@lru_cache(maxsize=512)  # a worker reads it before the call, when it settles, and when the flow goes on
def read(field: bytes) -> NodeOf:
    """Read the field of an envelope. Raises DecodeError."""
    flow, _, rest = field.decode("utf-8", "replace").partition("/")
    number, _, told = rest.partition("/")
    try:
        data = orjson.loads(told) if told else {}
        return NodeOf(flow, int(number), {str(name): _need(one) for name, one in data.items()})
    except (ValueError, TypeError, AttributeError, KeyError):
        raise DecodeError(f"field y does not name a node of a flow: {field[:80]!r}") from None


def _need(data: Any) -> Need:
    if isinstance(data, dict):
        return _of_several(data)
    return [int(one) for one in data] if isinstance(data, list) else int(data)


def _of_several(data: dict[str, Any]) -> OfMap | OfCompleted | OfFailure:
    if "e" in data:
        return OfFailure()
    return OfCompleted(int(data["c"])) if "c" in data else OfMap(int(data["m"]), _first(data))


def _first(data: Any) -> int | None:
    return int(data["n"]) if "n" in data else None


def spliced(payload: bytes, arguments: Mapping[str, bytes]) -> bytes:
    """Return a payload with more arguments, each as JSON. payload: a JSON object."""
    more = b",".join(orjson.dumps(name) + b":" + value for name, value in arguments.items())
    body = payload.strip()[1:-1].strip()
    return b"{" + (body + b"," + more if body and more else body or more) + b"}"
