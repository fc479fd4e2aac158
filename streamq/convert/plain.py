"""Values where no annotation promises anything: they are sent if JSON brings them back equal.

Owns what is JSON as it is, and what is said of everything else. Converts nothing.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections import deque
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Final
from uuid import UUID

import orjson

from streamq.convert.converter import SCALARS, Converter, Refused, short
from streamq.depth import DEEPEST, TOO_DEEP

OPTION: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
"""orjson must not write on its own what it could not read back."""

UNTYPED: Final = (object, typing.Any)
"""Annotations that promise nothing."""
QUICK: Final = SCALARS - {float}
"""What orjson writes as it is, or raises; it writes a NaN as null, silently."""
_FIXES: Final = {"tolist": "pass its tolist()", "__index__": "pass int(…)", "__float__": "pass float(…)"}
_AS_TEXT: Final = (date, time, timedelta, UUID, Decimal, PurePath)


def exact(value: object) -> object:
    """The value as JSON data that is equal to it; Refused where there is none."""
    if value.__class__ in SCALARS:
        return value if not isinstance(value, float) or math.isfinite(value) else walk(value)
    try:
        # Two passes in C instead of one in Python. A tuple, a UUID or a NaN in it does not come back equal.
        if orjson.loads(orjson.dumps(value, option=OPTION)) == value:
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    return walk(value)


PLAIN: Final = Converter("any JSON value", exact, None, kinds=QUICK, plain=True)
"""Of a float must be seen whether JSON has it: orjson writes a NaN as null, silently."""


def walk(value: object, depth: int = 0) -> object:
    """The same as `exact`, piece by piece: finds the place of what is refused, and normalizes subclasses."""
    if depth > DEEPEST:
        raise Refused(TOO_DEEP, changed=False)
    if isinstance(value, Mapping):
        return _equal(
            value, {text_key(key): _item(f".{key}", item, depth) for key, item in value.items()}, dict
        )
    if isinstance(value, list):
        return _equal(value, [_item(f"[{n}]", item, depth) for n, item in enumerate(value)], list)
    return _scalar(value)


def _item(name: str, value: object, depth: int) -> object:
    try:
        return walk(value, depth + 1)
    except Refused as refused:
        raise refused.under(name) from None


def _equal(value: object, found: object, kind: type) -> object:
    """What is left of a subclass; Refused where it held more than its base does."""
    if value.__class__ is kind or found == value:
        return found
    raise Refused(
        f"a {type(value).__qualname__} would come back as a {kind.__name__} that is not equal to it"
    )


def text_key(key: object) -> str:
    """The key of an object as JSON has it; Refused where it is no text."""
    if isinstance(key, str):
        return text(key)
    kind = type(key).__qualname__
    raise Refused(
        f"the key {short(key)} is {kind}, and JSON keys are text: use str keys, or annotate dict[{kind}, …]",
        changed=False,
    )


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    found: object = None
    if isinstance(value, str):
        found = text(value)
    elif isinstance(value, int):
        found = whole(int.__index__(value))
    elif isinstance(value, float):
        found = finite(float.__float__(value))
    else:
        raise foreign(value)
    if found == value:
        return found
    raise Refused(f"a {type(value).__qualname__} would come back as {short(found)}")


def text(value: str) -> str:
    """The text itself, of a subclass too; Refused where UTF-8 cannot hold it."""
    found = str.__str__(value)
    try:
        found.encode()
    except UnicodeEncodeError:
        fault = "the text has lone surrogates, it is no UTF-8: decode it with errors='replace'"
        raise Refused(fault, changed=False) from None
    return found


def whole(value: int) -> int:
    """The number itself; Refused beyond 64 bits."""
    if -(2**63) <= value < 2**64:
        return value
    fault = "an integer of more than 64 bits is no JSON number here: pass it as text"
    raise Refused(fault, changed=False)


def finite(value: float) -> float:
    """The number itself; Refused where JSON has none for it."""
    if math.isfinite(value):
        return value
    raise Refused(f"{value} is no JSON number: pass None, or a text", changed=False)


def foreign(value: object) -> Refused:
    """The refusal of a value that JSON has no form for, or one that nobody would turn back."""
    kind = type(value).__qualname__
    if isinstance(value, bytes | bytearray | memoryview):
        fault = "bytes are no JSON: pass text (base64), or a reference to where the data is"
        return Refused(fault, changed=False)
    if isinstance(value, tuple | set | frozenset | deque):
        return Refused(f"a {kind} would come back as a list: annotate it as {kind}, or pass a list")
    if isinstance(value, _AS_TEXT):
        return Refused(f"a {kind} would come back as text or a number: annotate it as {kind}, or pass text")
    if isinstance(value, Enum):
        return Refused(
            f"a {kind} would come back as its value: annotate it as {kind}, or pass the value itself"
        )
    if inspect.iscoroutine(value):
        value.close()  # or Python would complain of it somewhere else
        fault = (
            f"{value.__qualname__} is async and was called, but nobody awaits it: await it, and where it is "
            "a handler under a decorator, make what wraps it async def as well"
        )
        return Refused(fault, changed=False)
    if hasattr(value, "__dataclass_fields__") or hasattr(value, "model_dump"):
        return Refused(f"a {kind} would come back as a dict: annotate it as {kind}, or pass a dict")
    fix = next(
        (fix for name, fix in _FIXES.items() if hasattr(value, name)), "pass its id, a dict or a dataclass"
    )
    return Refused(f"{kind} is no JSON type: {fix}", changed=False)
