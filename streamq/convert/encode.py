"""Python values -> JSON by orjson; what cannot be JSON is an error that says where it is.

Owns the extra types beyond orjson's own. The usual way is one `orjson.dumps`; only where that fails, or
may have lost a NaN, the value is walked to find the place.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import orjson

from streamq.errors import PayloadError

_DEEPEST: Final = 200
_KEYS: Final = (str, int, float, bool, UUID, date, datetime, time, Enum, type(None))


def encode(value: object, *, what: str, non_str_keys: bool = False) -> bytes:
    """JSON bytes. PayloadError names `what`, the place inside it, the fault and the fix.

    `non_str_keys` lets keys be int, UUID, Enum or dates: right where the reader turns them back.
    """
    option = orjson.OPT_NON_STR_KEYS if non_str_keys else None
    try:
        raw = orjson.dumps(value, default=_default, option=option)
    except (TypeError, ValueError, RecursionError) as error:
        _find(value, what, non_str_keys=non_str_keys)
        raise PayloadError(f"{what} cannot be JSON: {error}") from None
    if b"null" in raw:
        # orjson writes NaN and Infinity as null, silently: look whether one of them is there.
        _find(value, what, non_str_keys=non_str_keys)
    return raw


def _default(value: Any) -> Any:
    """The types that orjson does not know; raises TypeError for all others."""
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, set | frozenset):
        return _in_order(value)
    if isinstance(value, deque):
        return list(value)
    if isinstance(value, tuple):  # a namedtuple: orjson takes plain tuples only
        return list(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"{type(value).__qualname__} is no JSON type")


def _in_order(values: Any) -> list[Any]:
    """The same for equal sets in every process, where that can be: an idempotency key compares payloads."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _find(value: object, what: str, *, non_str_keys: bool) -> None:
    """Walk the value and raise PayloadError for the first thing that JSON cannot hold."""
    for path, fault in _faults(value, "", 0, non_str_keys=non_str_keys):
        place = f" at {path.lstrip('.')}" if path else ""
        raise PayloadError(f"{what} cannot be JSON{place}: {fault}")


def _faults(value: Any, path: str, depth: int, *, non_str_keys: bool) -> Iterator[tuple[str, str]]:
    if depth > _DEEPEST:
        yield (
            path[:60] + "…",
            f"it is nested deeper than {_DEEPEST} levels, or contains itself: pass a flat value",
        )
        return
    if fault := _own_fault(value):
        yield path, fault
        return
    if isinstance(value, Mapping):
        for key in value:
            if fault := _key_fault(key, non_str_keys=non_str_keys):
                yield path, fault
                return
    for name, inner in _inside(value):
        yield from _faults(inner, path + name, depth + 1, non_str_keys=non_str_keys)


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a value with their names."""
    if isinstance(value, Mapping):
        yield from ((f".{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"[{n}]", item) for n, item in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{f.name}", getattr(value, f.name)) for f in dataclasses.fields(value))
    elif isinstance(value, Enum):
        yield "", value.value
    elif dump := getattr(value, "model_dump", None):
        yield "", dump(mode="json")


def _own_fault(value: Any) -> str | None:
    """What keeps a single value from being JSON, with the fix; None where nothing does."""
    if isinstance(value, Enum):
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes are no JSON: pass text (base64), or a reference to where the data is"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is no JSON number: pass None, or a text"
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "an integer of more than 64 bits is no JSON number here: pass it as text"
    if isinstance(value, str):
        return _text_fault(value)
    known = (
        int,
        float,
        bool,
        Mapping,
        list,
        tuple,
        set,
        frozenset,
        deque,
        datetime,
        date,
        time,
        timedelta,
        UUID,
    )
    if value is None or isinstance(value, (*known, Decimal, PurePath)):
        return None
    if (dataclasses.is_dataclass(value) and not isinstance(value, type)) or hasattr(value, "model_dump"):
        return None
    return _foreign(value)


def _foreign(value: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()  # or Python would complain of it somewhere else
        return (
            f"{value.__qualname__} is async and was called, but nobody awaits it: await it, and where it is "
            "a handler under a decorator, make what wraps it async def as well"
        )
    return f"{type(value).__qualname__} is no JSON type: pass its id, a dict or a dataclass"


def _text_fault(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError:
        return "the text has lone surrogates, it is no UTF-8: decode it with errors='replace'"
    return None


def _key_fault(key: Any, *, non_str_keys: bool) -> str | None:
    if isinstance(key, str):
        return _text_fault(key)
    if non_str_keys and isinstance(key, _KEYS):
        return None
    kind = type(key).__qualname__
    return f"the key {key!r} is {kind}, and JSON keys are text: use str keys, or annotate dict[{kind}, …]"
