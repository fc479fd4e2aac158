"""Values -> JSON text where no handler is known, and a refusal as the error that a caller sees.

Owns the words of that error.
"""

from __future__ import annotations

import orjson

from streamq.convert.converter import Converter, Refused
from streamq.convert.plain import QUICK, walk
from streamq.depth import TOO_DEEP, too_deep
from streamq.errors import PayloadError


def encode(value: object, *, what: str) -> bytes:
    """JSON bytes of a value whose annotations are elsewhere. PayloadError names `what` and the place."""
    if isinstance(value, dict) and QUICK.issuperset(map(type, value.values())):
        try:
            return orjson.dumps(value)
        except (TypeError, ValueError):
            pass  # say where
    from streamq.convert.compile import own  # noqa: PLC0415 - with the first value that has parts
    from streamq.convert.natural import written  # noqa: PLC0415

    try:
        return written(value, own)
    except Refused as refused:
        raise refusal(what, refused) from None
    except RecursionError:
        raise refusal(what, Refused(TOO_DEEP, changed=False)) from None


def encode_as(converter: Converter, value: object, *, what: str) -> bytes:
    """JSON bytes of a value that its converter brings back; PayloadError where it does not."""
    try:
        return dumped(converter.encode(value))
    except Refused as refused:
        raise refusal(what, refused) from None
    except RecursionError:
        raise refusal(what, Refused(TOO_DEEP, changed=False)) from None


def dumped(data: object) -> bytes:
    """JSON data as text. Refused where orjson does not write it, or where it is nested too deep."""
    try:
        raw = orjson.dumps(data)
    except (TypeError, ValueError, RecursionError):
        walk(data)
        raise Refused(TOO_DEEP, changed=False) from None
    if too_deep(raw):
        raise Refused(TOO_DEEP, changed=False)
    return raw


def refusal(what: str, refused: Refused) -> PayloadError:
    """The error for the caller: what, where in it, why, and the fix."""
    place = f" at {refused.place}" if refused.place else ""
    if refused.unfit:
        verb = "cannot be sent as annotated"
    else:
        verb = "would not come back as sent" if refused.changed else "cannot be JSON"
    return PayloadError(f"{what} {verb}{place}: {refused.fault}")
