"""Convert values without parts that JSON has no type for: times, numbers, identifiers, addresses, paths.

Owns the text form of each. Subclasses are written as their base class and read as the annotated class.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, NamedTuple
from uuid import UUID

from streamq.convert.converter import Converter, EncodeError, decode_error, kind_of, unexpected_type
from streamq.convert.round_trip import same
from streamq.convert.untyped import finite, integer, no_json_form, text

_FOLD: Final = "[fold=1]"
"""Suffix of a naive time in the second of the two equal hours when clocks go back. Syntax as in RFC 9557."""
_EXACT: Final = 2.0**33
"""Seconds, about 270 years: up to this a float is exact to the microsecond."""
_MICROSECOND: Final = timedelta(microseconds=1)
_TEXT: Final[frozenset[type]] = frozenset({str})
_WHOLE: Final[frozenset[type]] = frozenset({int})
_NUMBERS: Final[frozenset[type]] = frozenset({int, float})


class _Form(NamedTuple):
    """How a type is written and read. json: the classes that are written; reads: the classes that are read;
    also: classes that are accepted besides the type itself."""

    write: Callable[[Any], object]
    read: Callable[[type, Any], object]
    json: frozenset[type] = _TEXT
    also: tuple[type, ...] = ()
    reads: frozenset[type] = _TEXT


def _moment(value: datetime | time) -> str:
    found = datetime.isoformat(value) if isinstance(value, datetime) else time.isoformat(value)
    return found + _FOLD if value.fold and value.utcoffset() is None else found


def _read_moment(kind: Any, data: str) -> object:
    if data.endswith(_FOLD):
        return kind.fromisoformat(data[: -len(_FOLD)]).replace(fold=1)
    return kind.fromisoformat(data)


def _seconds(value: timedelta) -> float | str:
    found = value.total_seconds()
    if abs(found) < _EXACT and timedelta(seconds=found) == value:
        return found
    micros = value // _MICROSECOND
    return f"{'-' if micros < 0 else ''}{abs(micros) // 10**6}.{abs(micros) % 10**6:06d}"


def _read_seconds(kind: Any, data: str | float) -> object:
    if isinstance(data, str):
        exact = Decimal(data)
        if exact.adjusted() > 20:  # otherwise a short text could produce an enormous number
            raise ValueError
        return kind(microseconds=int(exact * 10**6))
    return kind(seconds=float(data))


def _decimal(value: Any) -> object:
    if isinstance(value, Decimal):
        return Decimal.__str__(value)
    return finite(float(value)) if isinstance(value, float) else integer(int(value))


def _number(value: float) -> object:
    if isinstance(value, float):
        return finite(float.__float__(value))
    return integer(value if isinstance(value, bool) else int.__index__(value))


def _read_number(kind: Any, data: object) -> object:
    return data if data.__class__ is kind else kind(data)


def _date(value: date) -> str:
    if isinstance(value, datetime):
        raise unexpected_type("a date", value, "pass value.date()")
    return date.isoformat(value)


def _from_text(kind: Any, data: object) -> object:
    return kind(data)


def _stdlib_class(kind: type) -> type:
    """Return the standard library's class: a test library may have replaced it during this import."""
    return next(base for base in kind.__mro__ if base.__module__ == "datetime")


_FORMS: Final[dict[type, _Form]] = {
    _stdlib_class(datetime): _Form(_moment, _read_moment),
    _stdlib_class(date): _Form(_date, _read_moment),
    time: _Form(_moment, _read_moment),
    timedelta: _Form(_seconds, _read_seconds, frozenset({float}), reads=_NUMBERS | _TEXT),
    UUID: _Form(str, _from_text),
    Decimal: _Form(_decimal, lambda kind, data: kind(str(data)), also=(int, float), reads=_NUMBERS | _TEXT),
    float: _Form(_number, _read_number, _NUMBERS, also=(int,), reads=_NUMBERS),
    PurePath: _Form(str, _from_text),
    ipaddress.IPv4Interface: _Form(str, _from_text),
    ipaddress.IPv6Interface: _Form(str, _from_text),
    ipaddress.IPv4Address: _Form(str, _from_text),
    ipaddress.IPv6Address: _Form(str, _from_text),
    ipaddress.IPv4Network: _Form(str, _from_text),
    ipaddress.IPv6Network: _Form(str, _from_text),
    # Only subclasses of these are converted: the classes themselves are JSON.
    str: _Form(text, _from_text, also=(str,)),
    int: _Form(lambda value: integer(int.__index__(value)), _from_text, _WHOLE, also=(int,), reads=_WHOLE),
}


def scalar(kind: type) -> Converter | None:
    """Return the converter for a class of this module or a subclass of one; None for any other."""
    for base in kind.__mro__:
        if base in _FORMS:
            return _converter(kind, base, _FORMS[base])
    return None


def _converter(kind: type, base: type, form: _Form) -> Converter:
    name, takes = kind.__name__, (kind, base, *form.also)

    def decode(data: object) -> object:
        if data.__class__ not in form.reads:
            raise decode_error(name, data)
        try:
            return form.read(kind, data)
        except (ValueError, TypeError, AttributeError, ArithmeticError):
            raise decode_error(name, data) from None

    def encode(value: object) -> object:
        if not isinstance(value, takes) or isinstance(value, bool):
            raise (
                no_json_form(value)
                if isinstance(value, bytes)
                else unexpected_type(f"a {name}", value, f"pass a {name}, or annotate what it is")
            )
        data = form.write(value)
        if value.__class__ is float and kind is float:
            return data  # nothing can have been lost
        try:
            back = form.read(kind, data)
        except Exception as error:  # noqa: BLE001 - a subclass may want other arguments
            raise EncodeError(f"cannot construct a {name} from {data!r:.80}: {error}") from None
        if not same(value, back) and not (
            isinstance(back, kind) and isinstance(value, form.also) and back == value
        ):
            raise EncodeError(f"{kind_of(value)} would come back as another value, {back!r:.80}")
        return data

    return Converter(name, encode, decode, form.json)
