"""Values -> JSON where nobody knows their annotation: tasks of other programs, results without one.

Owns the form that each type has there. What was a tuple arrives as a list, a datetime as text: whoever reads
it must know. Records are written by their own class, so that nothing in them is left out.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final

import orjson

from streamq.convert.containers import in_order
from streamq.convert.converter import SCALARS, Converter, Refused
from streamq.convert.plain import OPTION, foreign, text_key, walk
from streamq.convert.scalars import scalar
from streamq.depth import DEEPEST, TOO_DEEP, too_deep
from streamq.errors import InvalidArguments

Own = Callable[[type], Converter]
"""The converter of a record's own class."""

_KEYS: Final = orjson.OPT_NON_STR_KEYS


def _no_own(kind: type) -> Converter:
    raise InvalidArguments(f"{kind.__qualname__} is no JSON type")


def natural(value: object, own: Own = _no_own, *, keys: bool = False) -> object:
    """The value as JSON data; Refused, with the place, where it has none. keys: any that JSON can write."""
    return orjson.loads(written(value, own, keys=keys))


def written(value: object, own: Own = _no_own, *, keys: bool = False) -> bytes:
    """The same as JSON text."""
    try:
        raw = orjson.dumps(
            value, default=lambda piece: _piece(piece, own), option=OPTION | _KEYS if keys else OPTION
        )
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(_walk(value, own, 0, keys=keys))
    if b"null" in raw:
        # orjson writes NaN and Infinity as null, silently: look whether one of them is there.
        _walk(value, own, 0, keys=keys)
    if too_deep(raw):
        raise Refused(TOO_DEEP, changed=False)
    return raw


def _piece(value: object, own: Own) -> object:
    """One step of a value that orjson does not know towards one that it does."""
    if isinstance(value, Mapping):
        return dict(value.items())
    if dataclasses.is_dataclass(value) or hasattr(value, "model_dump"):
        return own(type(value)).encode(value)
    if isinstance(value, set | frozenset):
        return in_order(value)
    if isinstance(value, list | tuple | deque):
        return list(value)
    converter = scalar(next((kind for kind in type(value).__mro__ if scalar(kind)), object))
    if converter is None:
        raise foreign(value)
    return converter.encode(value)


def _walk(value: object, own: Own, depth: int, *, keys: bool) -> object:
    """The same piece by piece: finds the place of what is refused."""
    if depth > DEEPEST:
        raise Refused(TOO_DEEP, changed=False)
    if value.__class__ in SCALARS:
        return walk(value)
    if isinstance(value, Enum):
        return _walk(value.value, own, depth + 1, keys=keys)
    try:
        found = _piece(value, own)
    except InvalidArguments as error:
        raise Refused(str(error), changed=False) from None
    parts = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    done: list[tuple[object, object]] = []
    for name, item in parts:
        try:
            done.append((name, _walk(item, own, depth + 1, keys=keys)))
        except Refused as refused:
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
