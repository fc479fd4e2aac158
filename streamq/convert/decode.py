"""Decoded JSON -> the types of annotations: a converter is compiled once and used for every task.

Owns the compilation. What needs no conversion costs nothing: its converter is None. What does not fit
raises DecodeError with the place, what was wanted and what was there.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections import abc, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Final
from uuid import UUID

from streamq.convert import compound
from streamq.errors import DecodeError, InvalidArguments

Convert = Callable[[Any], Any]

_AS_IT_IS: Final = (str, int, bool, object, Any, None, type(None), dict, list, abc.Mapping, abc.Sequence)


def _seconds(value: Any) -> timedelta:
    return timedelta(seconds=float(value))


def _float(value: Any) -> float:
    return value if isinstance(value, float) else float(value)


_SIMPLE: Final[dict[Any, Convert]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    timedelta: _seconds,
    UUID: UUID,
    Decimal: lambda value: Decimal(str(value)),
    float: _float,
    Path: Path,
    PurePath: PurePath,
}
_FROM_TEXT: Final = (datetime, date, time, UUID)
_CONTAINERS: Final[dict[Any, Callable[[Any], Any]]] = {
    list: list, set: set, frozenset: frozenset, deque: deque, abc.Sequence: list, abc.Iterable: list,
    abc.Collection: list, abc.MutableSequence: list, abc.Set: set, abc.MutableSet: set,
}  # fmt: skip
_MAPPINGS: Final = (dict, abc.Mapping, abc.MutableMapping)
_WRAPPERS: Final = (typing.Final, typing.Required, typing.NotRequired, typing.ClassVar)


def decoder(annotation: Any) -> Convert | None:
    """The converter for an annotation; None where the JSON value is passed as it is.

    InvalidArguments where no JSON value can become what is asked for.
    """
    annotation = unwrapped(annotation)
    if annotation in _CACHE:
        return _CACHE[annotation]
    if _hashable_in(annotation, _AS_IT_IS) or isinstance(annotation, typing.TypeVar):
        return None
    if annotation in (bytes, bytearray, memoryview):
        raise InvalidArguments(
            "bytes cannot be an argument: JSON has none; take text (base64) or a reference"
        )
    return _compiled(annotation)


_CACHE: dict[Any, Convert | None] = {}


def _compiled(annotation: Any) -> Convert | None:
    """Compile; a type that contains itself meets this entry of the cache on its way down."""
    box: list[Convert | None] = [None]
    if isinstance(annotation, type):
        _CACHE[annotation] = lambda value: box[0](value) if box[0] is not None else value
    try:
        box[0] = _make(annotation)
    except BaseException:
        _CACHE.pop(annotation, None)
        raise
    _CACHE[annotation] = box[0]
    return box[0]


def _make(annotation: Any) -> Convert | None:
    if annotation in _SIMPLE:
        return _simple(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return compound.union(args, decoder)
    if origin is typing.Literal:
        return compound.literal(args)
    kind = origin or annotation
    if kind is tuple:
        return compound.fixed(args, decoder)
    if kind in _CONTAINERS:
        inner = decoder(args[0]) if args else None
        return (
            None if inner is None and _CONTAINERS[kind] is list else compound.listed(_CONTAINERS[kind], inner)
        )
    if kind in _MAPPINGS and args:
        return compound.mapping(args[0], args[1], decoder)
    return _for_class(kind) if isinstance(kind, type) else None


def _for_class(kind: type) -> Convert | None:
    if issubclass(kind, Enum):
        return _guarded(kind, kind.__name__)
    if hasattr(kind, "model_validate"):
        return compound.model(kind)
    if dataclasses.is_dataclass(kind) or hasattr(kind, "_fields") or typing.is_typeddict(kind):
        return compound.fields(kind, decoder)
    return None


def _simple(kind: Any) -> Convert:
    return _guarded(_SIMPLE[kind], kind.__name__, kind)


def _guarded(make: Convert, wanted: str, kind: type | None = None) -> Convert:
    def convert(value: Any) -> Any:
        if kind is float and value.__class__ is float:
            return value
        if kind in _FROM_TEXT and not isinstance(value, str):
            raise misfit(wanted, value)
        try:
            return make(value)
        except (ValueError, TypeError, AttributeError, InvalidOperation, OverflowError):
            raise misfit(wanted, value) from None

    return convert


def misfit(wanted: str, value: object) -> DecodeError:
    """The error for a value that cannot become what was wanted."""
    shown = repr(value)
    return DecodeError(
        f"wanted {wanted}, got {shown[:80]}{'…' if len(shown) > 80 else ''}", reason="arguments"
    )


def unwrapped(annotation: Any) -> Any:
    """The annotation without Annotated, NewType, Required, Final and aliases."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated or origin in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _hashable_in(annotation: Any, listed: tuple[Any, ...]) -> bool:
    return any(annotation is known for known in listed)


def wants_non_str_keys(annotation: Any) -> bool:
    """Whether some mapping inside has keys other than text, which the decoder turns back."""
    return _wants_keys(annotation, set())


def _wants_keys(annotation: Any, seen: set[Any]) -> bool:
    annotation = unwrapped(annotation)
    try:
        if annotation in seen:
            return False
        seen.add(annotation)
    except TypeError:  # an unhashable piece of Annotated or Literal
        return False
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) in _MAPPINGS and unwrapped(args[0]) not in (str, Any):
        return True
    inner = [*args, *compound.field_types(annotation).values()]
    return any(_wants_keys(part, seen) for part in inner)
