"""str, int, bool, None, list and dict: JSON as they are, and checked to be what the annotation names.

Owns which JSON classes each takes. Converts nothing but subclasses, which are sent as their base.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Final

from streamq.convert.converter import Converter, Refused, misfit, wrong
from streamq.convert.plain import foreign, walk

_NONE: Final = type(None)


def checked(kinds: Iterable[type]) -> Converter:
    """Return the converter of values of exactly these classes, each str, int, bool or NoneType.

    A bool is no int. Subclasses of str and int are taken and sent as their base.
    """
    taken = frozenset(kinds)
    bases = tuple(taken - {bool, _NONE})
    names = {kind: "None" if kind is _NONE else kind.__name__ for kind in (*_ORDER, *taken)}
    name = " or ".join(names[kind] for kind in _ORDER if kind in taken)

    def decode(data: object) -> object:
        if data.__class__ in taken:
            return data
        raise misfit(name, data)

    def encode(value: object) -> object:
        if value.__class__ in taken:
            return value
        if isinstance(value, bases) and not isinstance(value, bool):
            return walk(value)
        raise unfit(f"{'an' if name[0] == 'i' else 'a'} {name}" if name != "None" else name, value)

    return Converter(name, encode, decode, taken, kinds=taken, plain=True)


_ORDER: Final[tuple[type, ...]] = (str, int, bool, _NONE)

_TEXT: Final = checked([str])
_NOTHING: Final = checked([_NONE])
_ONE: Final = (
    (str, _TEXT), (int, checked([int])), (bool, checked([bool])), (None, _NOTHING), (_NONE, _NOTHING),
    (typing.LiteralString, _TEXT),
)  # fmt: skip


def one(annotation: object) -> Converter | None:
    """Return the converter of an annotation of this module; None for any other."""
    return next((found for known, found in _ONE if annotation is known), None)


def unfit(wanted: str, value: object) -> Refused:
    """Return the refusal of a value of another class; says what to do where it is of no JSON class at all."""
    if isinstance(value, str | int | float | list | dict | None):
        return wrong(wanted, value)
    found = foreign(value)
    return Refused(f"{wanted} is wanted, and {found.fault}", unfit=True)


def bare(kind: type, untyped: Converter) -> Converter:
    """list or dict, of which nothing is said but that."""
    wanted, given = f"a {kind.__name__}", "an object" if kind is dict else f"a {kind.__name__}"

    def decode(data: object) -> object:
        if data.__class__ is not kind:
            raise misfit(given, data)
        return data

    def encode(value: object) -> object:
        data: object = untyped.encode(value)
        if data.__class__ is not kind:
            raise unfit(wanted, value)
        return data

    return Converter(kind.__name__, encode, decode, frozenset({kind}), plain=True)
