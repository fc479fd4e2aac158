"""Encode values without a known annotation: tasks of other programs, results without one.

Owns the form that each type is written in. Nothing reads the form back: a tuple arrives as a list, a datetime
as text, and the reader must expect that. Records are written by the converter for their own class, so that no
field is omitted.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

import orjson

from streamq.convert.containers import sorted_items
from streamq.convert.converter import SCALARS, Converter, EncodeError
from streamq.convert.scalars import scalar
from streamq.convert.untyped import OPTION, no_json_form, text_key, walk
from streamq.depth import DEEPEST, TOO_DEEP, too_deep
from streamq.errors import InvalidArguments

RecordConverter = Callable[[type], Converter]
"""A function that returns the converter for a record's own class."""

_KEYS: Final = orjson.OPT_NON_STR_KEYS


def _no_record_converter(kind: type) -> Converter:
    raise InvalidArguments(f"{kind.__qualname__} has no JSON form")


def to_data(
    value: object, record_converter: RecordConverter = _no_record_converter, *, keys: bool = False
) -> object:
    """Return the value as JSON data. Raise EncodeError with the position if it has no JSON form. keys: accept
    any dict key that JSON can write."""
    return orjson.loads(to_json(value, record_converter, keys=keys))


def to_json(
    value: object, record_converter: RecordConverter = _no_record_converter, *, keys: bool = False
) -> bytes:
    """Return the same as JSON text."""
    try:
        raw = orjson.dumps(
            value,
            default=lambda piece: _piece(piece, record_converter),
            option=OPTION | _KEYS if keys else OPTION,
        )
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(_walk(value, record_converter, 0, keys=keys))
    if b"null" in raw:
        # orjson silently writes NaN and Infinity as null, so check whether the value holds one.
        _walk(value, record_converter, 0, keys=keys)
    if too_deep(raw):
        raise EncodeError(TOO_DEEP, changed=False)
    return raw


def _piece(value: object, record_converter: RecordConverter) -> object:
    """Return a value that orjson does not know as one, or as a container of ones, that it may know."""
    if isinstance(value, Mapping):
        return dict(value.items())
    if dataclasses.is_dataclass(value) or hasattr(value, "model_dump"):
        return record_converter(type(value)).encode(value)
    if isinstance(value, set | frozenset):
        return sorted_items(value)
    if isinstance(value, list | tuple | deque):
        return list(value)
    converter = scalar(next((kind for kind in type(value).__mro__ if scalar(kind)), object))
    if converter is None:
        raise no_json_form(value)
    return converter.encode(value)


def _walk(value: object, record_converter: RecordConverter, depth: int, *, keys: bool) -> object:
    """Do the same part by part, to find the position of the value that is refused."""
    if depth > DEEPEST:
        raise EncodeError(TOO_DEEP, changed=False)
    if value.__class__ in SCALARS:
        return walk(value)
    if isinstance(value, Enum):
        return _walk(value.value, record_converter, depth + 1, keys=keys)
    try:
        found = _piece(value, record_converter)
    except InvalidArguments as error:
        raise EncodeError(str(error), changed=False) from None
    parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    done: list[tuple[object, object]] = []
    for name, item in parts:
        try:
            done.append((name, _walk(item, record_converter, depth + 1, keys=keys)))
        except EncodeError as refused:
            raise refused.under(f"[{name}]" if isinstance(found, list) else f".{name}") from None
    if isinstance(found, dict):
        return {_key(name, keys=keys): item for name, item in done}
    return [item for _, item in done] if isinstance(found, list) else walk(found)


def _key(key: object, *, keys: bool) -> str:
    if keys and not isinstance(key, str):
        try:
            return str(next(iter(orjson.loads(orjson.dumps({key: 0}, option=_KEYS)))))
        except TypeError:
            pass
    return text_key(key)
