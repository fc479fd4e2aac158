"""Make up arguments for a sample task from a handler's signature.

Owns the examples. Must not call the user's code.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

_PLAIN: Final[dict[object, object]] = {
    bool: True, int: 1, float: 1.5, Decimal: Decimal("1.50"), UUID: UUID(int=1), type(None): None,
    datetime: datetime(2030, 1, 1, tzinfo=UTC), date: date(2030, 1, 1),
}  # fmt: skip
_EMPTY: Final = (list, tuple, set, frozenset, dict)


class NoExampleError(Exception):
    """There is no example for this annotation."""


def arguments(function: Callable[..., object]) -> dict[str, object] | None:
    """Return example arguments for the parameters without a default; None if there is no example for an
    annotation."""
    try:
        hints = typing.get_type_hints(function)
        required = [
            name
            for name, one in inspect.signature(function).parameters.items()
            if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        ]
        return {name: _example(hints.get(name, str), name) for name in required}
    except (NoExampleError, NameError, TypeError):
        return None


def _example(hint: object, name: str) -> object:
    if hint is str or hint is Any:
        return f"sample {name}"
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _first(typing.get_args(hint), name)
    if origin is typing.Literal:
        return typing.get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    kind = origin or hint
    # An empty tuple does not fit an annotation of fixed length.
    if kind in _EMPTY and not (kind is tuple and typing.get_args(hint)):
        return kind()
    raise NoExampleError(hint)


def _first(hints: tuple[object, ...], name: str) -> object:
    for hint in hints:
        try:
            return _example(hint, name)
        except NoExampleError:
            continue
    raise NoExampleError(hints)
