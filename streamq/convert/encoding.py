"""Encode values to JSON text without a handler, and turn an EncodeError into the caller's error.

Owns the wording of that error.
"""

from __future__ import annotations

import orjson

from streamq.convert.converter import Converter, EncodeError
from streamq.convert.untyped import QUICK, walk
from streamq.depth import TOO_DEEP, too_deep
from streamq.errors import PayloadError


def encode(value: object, *, what: str) -> bytes:
    """Return the JSON bytes of a value without an annotation. PayloadError names `what` and the position."""
    if isinstance(value, dict) and QUICK.issuperset(map(type, value.values())):
        try:
            return orjson.dumps(value)
        except (TypeError, ValueError):
            pass  # find the position below
    from streamq.convert.compile import record_converter  # noqa: PLC0415 - with the first value that has parts
    from streamq.convert.one_way import to_json  # noqa: PLC0415

    try:
        return to_json(value, record_converter)
    except EncodeError as refused:
        raise payload_error(what, refused) from None
    except RecursionError:
        raise payload_error(what, EncodeError(TOO_DEEP, changed=False)) from None


def encode_as(converter: Converter, value: object, *, what: str) -> bytes:
    """Return the JSON bytes of a value by its converter. Raise PayloadError if it would not come back."""
    try:
        return dumped(converter.encode(value))
    except EncodeError as refused:
        raise payload_error(what, refused) from None
    except RecursionError:
        raise payload_error(what, EncodeError(TOO_DEEP, changed=False)) from None


def dumped(data: object) -> bytes:
    """Return JSON data as text. Raise EncodeError if orjson cannot write it or it is nested too deeply."""
    try:
        raw = orjson.dumps(data)
    except (TypeError, ValueError, RecursionError):
        walk(data)
        raise EncodeError(TOO_DEEP, changed=False) from None
    if too_deep(raw):
        raise EncodeError(TOO_DEEP, changed=False)
    return raw


def payload_error(what: str, refused: EncodeError) -> PayloadError:
    """Return the caller's error: what failed, at which position, why, and the fix."""
    place = f" at {refused.place}" if refused.place else ""
    if refused.wrong_type:
        verb = "cannot be sent as annotated"
    else:
        verb = "would not come back as sent" if refused.changed else "cannot be JSON"
    return PayloadError(f"{what} {verb}{place}: {refused.fault}")
