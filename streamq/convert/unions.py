"""Unions: the member is found again by the form of the data alone.

Owns which member data is read as. A value whose data another member would claim is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from streamq.convert.converter import STATE, Convert, Converter, Refused, kind_of, misfit, short, wrong
from streamq.convert.json_scalars import checked, unfit
from streamq.convert.same import same
from streamq.errors import DecodeError

_NONE: Final = frozenset({type(None)})
_ANY: Final = (str, int, float, bool, type(None), dict, list)


def optional(inner: Converter) -> Converter:
    """T | None, the usual union."""
    write, read = inner.write, inner.read

    def decode(data: object) -> object:
        return None if data is None else read(data)

    def encode(value: object) -> object:
        if value is None:
            return None
        data = write(value)
        if data is None:
            raise Refused(f"{short(value)} would come back as None")
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
    """A | B | …, of the annotations and their converters."""
    converters = [one for _, one in members]
    kinds = frozenset[type]().union(*(one.kinds for one in converters))
    for one in converters:
        if one.decode is None and all(other.plain for other in converters):
            return one  # it takes whatever is JSON
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
    """The union of members whose data are the values themselves: there is nothing to be told apart."""

    def decode(data: object) -> object:
        return _first(members, name, data)

    def encode(value: object) -> object:
        refused: Refused | None = None
        for one in members:
            try:
                return one.write(value)
            except Refused as error:
                refused = _better(refused, error, of_own=True)
        raise refused if refused is not None and refused.place else unfit(name, value)

    json = frozenset[type]().union(*(one.json for one in members))
    return Converter(name, encode, decode, json, kinds=kinds, plain=True)


def _union(name: str, converters: list[Converter]) -> Converter:
    typed, plains = [one for one in converters if not one.plain], [one for one in converters if one.plain]
    plain = {kind for one in plains for kind in one.json or _ANY}
    members = (*typed, *plains)

    def decode(data: object) -> object:
        """The member that writes exactly such data; else the first that reads it, plain text last."""
        kind = data.__class__
        found = _read(typed, data, strict=kind in plain)
        if found is not None and (found[1] or kind not in plain or kind is str):
            return found[0]
        return _first(plains, name, data)

    def encode(value: object) -> object:
        refused: Refused | None = None
        for one in members:
            try:
                data = _trusting(one, value)
            except Refused as error:
                refused = _better(refused, error, of_own=not one.plain)
                continue
            back = value if STATE.trusting else _read_back(decode, data)
            if same(value, back):
                return data
            refused = _ambiguous(name, value, back)
        raise refused or wrong(name, value)

    return Converter(name, encode, decode)


def _first(plains: list[Converter], name: str, data: object) -> object:
    """What the first of these reads; they are plain, so that it is the data itself."""
    claiming = [one for one in plains if one.claims(data)]
    for one in claiming:
        try:
            return one.read(data)
        except DecodeError:
            if len(claiming) == 1:
                raise
    raise misfit(name, data)


def _read(typed: list[Converter], data: object, *, strict: bool) -> tuple[object, bool] | None:
    """What a member makes of the data, and whether it writes exactly such data. strict: a plain member
    would take it, so those members do not count that do not write such data at all."""
    claiming = [one for one in typed if one.claims(data)]
    if not strict and len(claiming) == 1:
        typed = claiming  # what it writes need not be looked at, which would take long in a deep tree
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


def _ambiguous(name: str, value: object, back: object) -> Refused:
    if back is NotImplemented:
        return wrong(name, value)
    return Refused(
        f"{kind_of(value)} would come back as {short(back)}, since the data of both look alike: "
        f"annotate one type, or tell the members of {name} apart by a Literal field"
    )


def _trusting(one: Converter, value: object) -> object:
    outer, STATE.trusting = STATE.trusting, True
    try:
        return one.encode(value)
    finally:
        STATE.trusting = outer


def _read_back(decode: Convert, data: object) -> object:
    """What the data is read as; a value like no other where it cannot be."""
    try:
        return decode(orjson.loads(orjson.dumps(data)))
    except (DecodeError, TypeError, ValueError):
        return NotImplemented


def _better(first: Refused | None, other: Refused, *, of_own: bool) -> Refused:
    """The refusal to show: one from inside a value of the right class tells most."""
    if first is None or (of_own and other.place and not first.place):
        return other
    return first


def _writes(one: Converter, value: object, data: object) -> bool:
    """Whether this member writes exactly such data for such a value."""
    try:
        written = orjson.loads(orjson.dumps(_trusting(one, value)))
    except (Refused, TypeError, ValueError):
        return False
    return data.__class__ is written.__class__ and same(data, written)
