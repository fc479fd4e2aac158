"""Convert unions: the data's form alone tells which member it is.

Owns which member data is read as. A value whose data another member would claim is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from streamq.convert.converter import (
    STATE,
    Convert,
    Converter,
    EncodeError,
    decode_error,
    kind_of,
    short,
    unexpected_type,
)
from streamq.convert.json_scalars import checked, unexpected_value
from streamq.convert.round_trip import same
from streamq.errors import DecodeError

_NONE: Final = frozenset({type(None)})
_ANY: Final = (str, int, float, bool, type(None), dict, list)


def optional(inner: Converter) -> Converter:
    """Return the converter for T | None, the most common union."""
    write, read = inner.write, inner.read

    def decode(data: object) -> object:
        return None if data is None else read(data)

    def encode(value: object) -> object:
        if value is None:
            return None
        data = write(value)
        if data is None:
            raise EncodeError(f"{short(value)} would come back as None")
        return data

    return Converter(
        f"{inner.name} or None",
        encode,
        decode,
        inner.json | _NONE,
        kinds=inner.kinds | _NONE,
        plain=inner.plain,
    )


def union(members: Sequence[tuple[object, Converter]]) -> Converter:
    """Return the converter for A | B | …, given the annotations and their converters."""
    converters = [one for _, one in members]
    kinds = frozenset[type]().union(*(one.kinds for one in converters))
    for one in converters:
        if one.decode is None and all(other.plain for other in converters):
            return one  # it accepts any JSON value
    if all(one.kinds and one.kinds == one.json for one in converters):
        return checked(kinds)
    found = [one for one in converters if one.kinds != _NONE]
    if len(found) == 1:
        return optional(found[0])
    name = " or ".join(dict.fromkeys(_name(*member) for member in members))
    plain = [one for one in converters if one.plain]
    return _plain(name, plain, kinds) if plain == converters else _union(name, converters)


def _name(annotation: object, converter: Converter) -> str:
    return getattr(annotation, "__name__", converter.name)


def _plain(name: str, members: list[Converter], kinds: frozenset[type]) -> Converter:
    """Return the converter for a union of members whose data is the value itself."""

    def decode(data: object) -> object:
        return _first(members, name, data)

    def encode(value: object) -> object:
        refused: EncodeError | None = None
        for one in members:
            try:
                return one.write(value)
            except EncodeError as error:
                refused = _better(refused, error, of_own=True)
        raise refused if refused is not None and refused.place else unexpected_value(name, value)

    json = frozenset[type]().union(*(one.json for one in members))
    return Converter(name, encode, decode, json, kinds=kinds, plain=True)


def _union(name: str, converters: list[Converter]) -> Converter:
    typed, plains = [one for one in converters if not one.plain], [one for one in converters if one.plain]
    plain = {kind for one in plains for kind in one.json or _ANY}
    members = (*typed, *plains)

    def decode(data: object) -> object:
        """Decode with the member that writes exactly this data, else the first that reads it; plain text
        last."""
        kind = data.__class__
        found = _read(typed, data, strict=kind in plain)
        if found is not None and (found[1] or kind not in plain or kind is str):
            return found[0]
        return _first(plains, name, data)

    def encode(value: object) -> object:
        refused: EncodeError | None = None
        for one in members:
            try:
                data = _trusting(one, value)
            except EncodeError as error:
                refused = _better(refused, error, of_own=not one.plain)
                continue
            back = value if STATE.trusting else _read_back(decode, data)
            if same(value, back):
                return data
            refused = _ambiguous(name, value, back)
        raise refused or unexpected_type(name, value)

    return Converter(name, encode, decode)


def _first(plains: list[Converter], name: str, data: object) -> object:
    """Return what the first matching member reads. The members are plain, so it is the data itself."""
    claiming = [one for one in plains if one.claims(data)]
    for one in claiming:
        try:
            return one.read(data)
        except DecodeError:
            if len(claiming) == 1:
                raise
    raise decode_error(name, data)


def _read(typed: list[Converter], data: object, *, strict: bool) -> tuple[object, bool] | None:
    """Return what a member reads from the data, and whether that member writes exactly this data. strict: a
    plain member would accept the data, so members that never write such data are skipped."""
    claiming = [one for one in typed if one.claims(data)]
    if not strict and len(claiming) == 1:
        typed = claiming  # skip comparing what it writes, which would take long in a deep tree
    first: tuple[object, bool] | None = None
    for one in typed:
        if strict and one.json and data.__class__ not in one.json:
            continue
        try:
            value = one.read(data)
        except DecodeError:
            continue
        if (len(typed) == 1 and not strict) or _writes(one, value, data):
            return value, True
        first = first or (value, False)
    return first


def _ambiguous(name: str, value: object, back: object) -> EncodeError:
    if back is NotImplemented:
        return unexpected_type(name, value)
    return EncodeError(
        f"{kind_of(value)} would come back as {short(back)}, since both have the same form in JSON: "
        f"annotate one type, or tell the members of {name} apart by a Literal field"
    )


def _trusting(one: Converter, value: object) -> object:
    outer, STATE.trusting = STATE.trusting, True
    try:
        return one.encode(value)
    finally:
        STATE.trusting = outer


def _read_back(decode: Convert, data: object) -> object:
    """Return what the data decodes to, or NotImplemented, which equals no value, if it cannot be decoded."""
    try:
        return decode(orjson.loads(orjson.dumps(data)))
    except (DecodeError, TypeError, ValueError):
        return NotImplemented


def _better(first: EncodeError | None, other: EncodeError, *, of_own: bool) -> EncodeError:
    """Return the more useful error: one from inside a value of the right class."""
    if first is None or (of_own and other.place and not first.place):
        return other
    return first


def _writes(one: Converter, value: object, data: object) -> bool:
    """Return whether this member writes exactly this data for this value."""
    try:
        written = orjson.loads(orjson.dumps(_trusting(one, value)))
    except (EncodeError, TypeError, ValueError):
        return False
    return data.__class__ is written.__class__ and same(data, written)
