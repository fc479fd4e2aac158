"""Compare a decoded value with the one that was sent.

Owns the comparison: by structure and class, not only by `==` of a user's class.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from streamq.convert.converter import EncodeError, kind_of

_BASES: Final = (str, int, float, Decimal, datetime, dict, list, tuple, set, frozenset)
_MISSING: Final = object()
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - both values have no zone by then


def check_same(sent: object, back: object) -> None:
    """Raise EncodeError with the position if the two differ."""
    found = difference(sent, back)
    if found is not None:
        refused = EncodeError(found[1])
        for step in reversed(found[0]):
            refused.under(step)
        raise refused


def same(sent: object, back: object) -> bool:
    """Return whether the decoded value is the one that was sent."""
    return difference(sent, back) is None


def difference(sent: object, back: object) -> tuple[list[str], str] | None:
    """Return the position of the first difference and a description; None if there is none."""
    if sent is back:
        return None
    if sent.__class__ is not back.__class__ and not _as_good(sent, back):
        return [], f"{kind_of(sent)} would come back as {kind_of(back)}"
    parts = _parts(sent, back)
    if parts is None:
        return None if _equal(sent, back) else ([], f"{kind_of(sent)} would come back as another value")
    for step, one, other in parts:
        if one is _MISSING or other is _MISSING:
            return [step], "it would come back as another value, or not at all"
        if (found := difference(one, other)) is not None:
            return [step, *found[0]], found[1]
    return None


def _as_good(sent: object, back: object) -> bool:
    """Return whether a different class is acceptable: a base class for its subclass, a float for an int."""
    if isinstance(sent, bool) or isinstance(back, bool | Enum):
        return False
    if isinstance(sent, int | float) and isinstance(back, float | Decimal):
        return bool(sent == back)
    if dataclasses.is_dataclass(sent) or dataclasses.is_dataclass(back):
        return False
    return isinstance(sent, back.__class__) and _equal(sent, back)


def _parts(sent: object, back: Any) -> Iterator[tuple[str, object, object]] | None:
    """Pair the parts of two values of one class; None if they have no parts."""
    if isinstance(sent, list | tuple | deque):
        return _items(sent, back)
    if isinstance(sent, Mapping):
        return _entries(sent, back)
    if isinstance(sent, set | frozenset):
        return _entries({one: one for one in sent}, {one: one for one in back})
    if isinstance(sent, Enum):
        return None
    if dataclasses.is_dataclass(sent):
        return _attributes([f.name for f in dataclasses.fields(sent)], sent, back)
    if hasattr(sent, "__pydantic_fields_set__"):
        return _model(sent, back)
    return None


def _items(sent: Collection[object], back: Collection[object]) -> Iterator[tuple[str, object, object]]:
    if len(sent) != len(back):
        yield f"[{min(len(sent), len(back))}]", _MISSING, _MISSING
        return
    for n, (one, other) in enumerate(zip(sent, back, strict=True)):
        yield f"[{n}]", one, other


def _entries(sent: Mapping[Any, object], back: Mapping[Any, object]) -> Iterator[tuple[str, object, object]]:
    keys = {_label(key): key for key in back}
    for key, item in sent.items():
        if (label := _label(key)) not in keys:
            yield f".{key}", _MISSING, _MISSING
            return
        yield f".{key}", key, keys[label]
        yield f".{key}", item, back[keys[label]]
    if len(sent) != len(back):
        yield "", _MISSING, _MISSING


def _label(key: object) -> object:
    """Return what a key is looked up by: an aware datetime by its instant, see `_same_moment`."""
    if isinstance(key, tuple):
        return tuple(map(_label, key))
    if isinstance(key, datetime) and key.utcoffset() is not None:
        since = key.replace(tzinfo=None, fold=0) - _EPOCH
        return since - (key.utcoffset() or timedelta(0)), datetime
    return key


def _attributes(names: Iterable[str], sent: object, back: object) -> Iterator[tuple[str, object, object]]:
    for name in names:
        one, other = getattr(sent, name, _MISSING), getattr(back, name, _MISSING)
        if one is not _MISSING or other is not _MISSING:
            yield f".{name}", one, other


def _model(sent: object, back: object) -> Iterator[tuple[str, object, object]]:
    yield from _attributes(getattr(type(sent), "__pydantic_fields__", sent.__dict__), sent, back)
    for held in ("__pydantic_extra__", "__pydantic_private__"):
        one, other = getattr(sent, held, None) or {}, getattr(back, held, None) or {}
        yield from _entries(one, other)


def _equal(sent: object, back: object) -> bool:
    """Compare, and also tell -0 from 0 and the two folds of a naive time apart; NaN equals NaN."""
    if isinstance(sent, Decimal) and isinstance(back, Decimal):
        return bool(sent.as_tuple() == back.as_tuple())
    if isinstance(sent, float) and isinstance(back, float):
        return bool(float.__repr__(sent) == float.__repr__(back))
    if isinstance(sent, datetime) and isinstance(back, datetime):
        return _same_moment(sent, back)
    if isinstance(sent, time) and isinstance(back, time):
        return bool(sent == back) and _same_clock(sent, back)
    try:
        return bool(sent == back)
    except Exception:  # noqa: BLE001 - a user's own comparison
        return False


def _same_moment(sent: datetime, back: datetime) -> bool:
    if sent.utcoffset() is None or back.utcoffset() is None:
        return bool(sent == back) and _same_clock(sent, back)
    # Datetimes of two zones never compare equal within a clock change: compare the instant.
    return sent - back == timedelta(0)


def _same_clock(sent: datetime | time, back: datetime | time) -> bool:
    """Return whether both have a zone, or both have none and the same fold."""
    if sent.tzinfo is None or back.tzinfo is None:
        return sent.tzinfo is back.tzinfo and sent.fold == back.fold
    return True
