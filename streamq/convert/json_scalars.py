"""Check str, int, bool, None, list and dict: JSON types that need no conversion.

Owns which JSON classes each accepts. Converts only subclasses, which are sent as their base class.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Final

from streamq.convert.converter import Converter, EncodeError, decode_error, unexpected_type
from streamq.convert.untyped import no_json_form, walk

_NONE: Final = type(None)


def checked(kinds: Iterable[type]) -> Converter:
    """Return the converter for values of exactly these classes, each str, int, bool or NoneType.

    A bool is not an int. Subclasses of str and int are accepted and sent as their base class.
    """
    taken = frozenset(kinds)
    bases = tuple(taken - {bool, _NONE})
    names = {kind: "None" if kind is _NONE else kind.__name__ for kind in (*_ORDER, *taken)}
    name = " or ".join(names[kind] for kind in _ORDER if kind in taken)

    def decode(data: object) -> object:
        if data.__class__ in taken:
            return data
        raise decode_error(name, data)

    def encode(value: object) -> object:
        if value.__class__ in taken:
            return value
        if isinstance(value, bases) and not isinstance(value, bool):
            return walk(value)
        raise unexpected_value(f"{'an' if name[0] == 'i' else 'a'} {name}" if name != "None" else name, value)

    return Converter(name, encode, decode, taken, kinds=taken, plain=True)


_ORDER: Final[tuple[type, ...]] = (str, int, bool, _NONE)

_TEXT: Final = checked([str])
_NOTHING: Final = checked([_NONE])
_ONE: Final = (
    (str, _TEXT), (int, checked([int])), (bool, checked([bool])), (None, _NOTHING), (_NONE, _NOTHING),
    (typing.LiteralString, _TEXT),
)  # fmt: skip


def find(annotation: object) -> Converter | None:
    """Return the converter for an annotation of this module; None for any other."""
    return next((found for known, found in _ONE if annotation is known), None)


def unexpected_value(wanted: str, value: object) -> EncodeError:
    """Return the error for a value of the wrong class. If no JSON type fits its class, the error names the
    fix."""
    if isinstance(value, str | int | float | list | dict | None):
        return unexpected_type(wanted, value)
    found = no_json_form(value)
    return EncodeError(f"expected {wanted}: {found.fault}", wrong_type=True)


def bare(kind: type, untyped: Converter) -> Converter:
    """Return the converter for a list or dict without item types."""
    wanted, given = f"a {kind.__name__}", "an object" if kind is dict else f"a {kind.__name__}"

    def decode(data: object) -> object:
        if data.__class__ is not kind:
            raise decode_error(given, data)
        return data

    def encode(value: object) -> object:
        data: object = untyped.encode(value)
        if data.__class__ is not kind:
            raise unexpected_value(wanted, value)
        return data

    return Converter(kind.__name__, encode, decode, frozenset({kind}), plain=True)
