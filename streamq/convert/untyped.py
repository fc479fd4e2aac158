"""Handle values without a useful annotation: they are sent if JSON brings them back equal.

Owns which values are JSON already, and the errors for all others. Converts nothing.
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

from streamq.convert.converter import SCALARS, Converter, EncodeError, short
from streamq.depth import DEEPEST, TOO_DEEP

OPTION: Final = (
    orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)
"""Keep orjson from writing types on its own that it could not read back."""

UNTYPED: Final = (object, typing.Any)
"""Annotations that promise nothing about the type."""
QUICK: Final = SCALARS - {float}
"""Classes that orjson writes unchanged or rejects. Not float: orjson silently writes a NaN as null."""
_FIXES: Final = {"tolist": "pass its tolist()", "__index__": "pass int(…)", "__float__": "pass float(…)"}
_AS_TEXT: Final = (date, time, timedelta, UUID, Decimal, PurePath)


def or_none(annotation: object, default: object) -> object:
    """Return the annotation of a parameter or field with a default: `x: int = None` may be None as well,
    which it does not say."""
    if default is not None or any(annotation is known for known in UNTYPED):
        return annotation
    try:
        return typing.Optional[annotation]  # noqa: UP045 - it may be any object
    except TypeError:
        return annotation  # it is no annotation, as who compiles it will tell


def exact(value: object) -> object:
    """Return the value as JSON data that is equal to it. Raise EncodeError if there is none."""
    if value.__class__ in SCALARS:
        return value if not isinstance(value, float) or math.isfinite(value) else walk(value)
    try:
        # Two passes in C instead of one in Python. A value with a tuple, a UUID or a NaN in it does not come
        # back equal.
        if orjson.loads(orjson.dumps(value, option=OPTION)) == value:
            return value
    except (TypeError, ValueError, RecursionError):
        pass
    return walk(value)


PLAIN: Final = Converter("any JSON value", exact, None, kinds=QUICK, plain=True)
"""A float is not in `kinds`: orjson silently writes a NaN as null, so each must be checked."""


def walk(value: object, depth: int = 0) -> object:
    """Do the same as `exact` part by part, to find the position of a refused value. Normalizes subclasses."""
    if depth > DEEPEST:
        raise EncodeError(TOO_DEEP, changed=False)
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
    except EncodeError as refused:
        raise refused.under(name) from None


def _equal(value: object, found: object, kind: type) -> object:
    """Return the converted base-class value of a subclass. Raise EncodeError if the subclass held more."""
    if value.__class__ is kind or found == value:
        return found
    raise EncodeError(
        f"a {type(value).__qualname__} would come back as a {kind.__name__} that is not equal to it"
    )


def text_key(key: object) -> str:
    """Return an object's key as text. Raise EncodeError if it is not a str."""
    if isinstance(key, str):
        return text(key)
    kind = type(key).__qualname__
    raise EncodeError(
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
        found = integer(int.__index__(value))
    elif isinstance(value, float):
        found = finite(float.__float__(value))
    else:
        raise no_json_form(value)
    if found == value:
        return found
    raise EncodeError(f"a {type(value).__qualname__} would come back as {short(found)}")


def text(value: str) -> str:
    """Return the text as a plain str. Raise EncodeError if it cannot be encoded as UTF-8."""
    found = str.__str__(value)
    try:
        found.encode()
    except UnicodeEncodeError:
        fault = "the text has lone surrogates, which UTF-8 cannot encode: decode it with errors='replace'"
        raise EncodeError(fault, changed=False) from None
    return found


def integer(value: int) -> int:
    """Return the number. Raise EncodeError beyond 64 bits."""
    if -(2**63) <= value < 2**64:
        return value
    fault = "an integer of more than 64 bits is not supported as a JSON number: pass it as text"
    raise EncodeError(fault, changed=False)


def finite(value: float) -> float:
    """Return the number. Raise EncodeError if it is NaN or infinite, which JSON cannot hold."""
    if math.isfinite(value):
        return value
    raise EncodeError(f"{value} is not a JSON number: pass None, or text", changed=False)


def no_json_form(value: object) -> EncodeError:
    """Return the error for a value without a JSON form, or with one that nothing would convert back."""
    kind = type(value).__qualname__
    if isinstance(value, bytes | bytearray | memoryview):
        fault = "bytes have no JSON form: pass text (base64), or a reference to where the data is"
        return EncodeError(fault, changed=False)
    if isinstance(value, tuple | set | frozenset | deque):
        return EncodeError(f"a {kind} would come back as a list: annotate it as {kind}, or pass a list")
    if isinstance(value, _AS_TEXT):
        return EncodeError(
            f"a {kind} would come back as text or a number: annotate it as {kind}, or pass text"
        )
    if isinstance(value, Enum):
        return EncodeError(
            f"a {kind} would come back as its value: annotate it as {kind}, or pass the value itself"
        )
    if inspect.iscoroutine(value):
        value.close()  # else Python warns elsewhere that it was never awaited
        fault = (
            f"{value.__qualname__} was called but never awaited: await it. If it is "
            "a handler under a decorator, make what wraps it async def as well"
        )
        return EncodeError(fault, changed=False)
    if hasattr(value, "__dataclass_fields__") or hasattr(value, "model_dump"):
        return EncodeError(f"a {kind} would come back as a dict: annotate it as {kind}, or pass a dict")
    fix = next(
        (fix for name, fix in _FIXES.items() if hasattr(value, name)), "pass its id, a dict or a dataclass"
    )
    return EncodeError(f"{kind} has no JSON form: {fix}", changed=False)
