"""The outputs of nodes among the arguments of a call: which they are, and whether they fit.

Owns these questions about one call. Knows nothing of the flow that the call becomes a node of.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from typing import Any, cast

from streamq.app.bound_task import Bound, BoundNode
from streamq.errors import InvalidArguments
from streamq.flows.needs import Need, OfFailure, OfMap
from streamq.model.output import Output
from streamq.registry import growth
from streamq.registry.handler import Handler


def outputs_of(call: Bound[object]) -> Mapping[str, Output | list[Output]]:
    if not isinstance(call, Bound):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidArguments(f"{call!r:.80} is not a call: pass task_type.bind(...)")
    return call.outputs if isinstance(call, BoundNode) else {}


def result_of(handler: Handler) -> object:
    """Return the type of a node's output; None if it is not known."""
    hint = handler.hint("return")
    return growth.output_of(hint) if handler.expands else hint


def listed(outputs: Mapping[str, Output | list[Output]]) -> list[Output]:
    return [one for given in outputs.values() for one in (given if isinstance(given, list) else [given])]


def is_one(one: Output | list[Output], *kinds: str) -> bool:
    return isinstance(one, Output) and one.kind in kinds


def need_of(one: Output | list[Output]) -> Need:
    if isinstance(one, list):
        return [each.number for each in one]
    if one.kind == "failure":
        return OfFailure()
    return OfMap(one.number) if one.kind == "map" else one.number


def check_fits(one: Output, handler: Handler, argument: str, *, item: bool = False) -> None:
    """Raise InvalidArguments where an output cannot be what an argument takes: both are plain classes, and
    are not related."""
    given, wanted = one.hint, handler.hint(argument)
    if item:
        if given is None or given is Any:
            return
        if typing.get_origin(given) not in (list, Sequence, tuple) and given is not list:
            raise InvalidArguments(f"a map goes over a list: node {one!r} returns {_text(given)}")
        parts = typing.get_args(given)
        given = parts[0] if parts else None
    given, wanted = _plain(given), _plain(wanted)
    if given is None or wanted is None or object in (given, wanted):
        return
    if issubclass(given, wanted) or issubclass(wanted, given) or (wanted is float and given is int):
        return
    raise InvalidArguments(
        f"argument {argument} of task type {handler.name!r} takes {_text(wanted)}, and node {one!r} returns "
        f"{_text(given)}"
    )


def _plain(hint: object) -> type | None:
    """Return the class of values with this annotation; None if it is not as plain as that."""
    origin = typing.get_origin(hint)
    if origin in (list, dict, tuple, set, frozenset):
        return cast("type", origin)
    return hint if origin is None and isinstance(hint, type) else None


def _text(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)
