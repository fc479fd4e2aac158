"""Put the types into an annotation that its class gives: for type variables, and for Self.

Owns what an annotation of a field means in its class. Compiles nothing.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Protocol, cast


class _Generic(Protocol):
    def __getitem__(self, arguments: tuple[object, ...]) -> object: ...


def as_meant(hint: object, kind: object, args: tuple[object, ...]) -> object:
    """Return the type of a field of a class. args: the type arguments of a generic class."""
    own = cast("_Generic", kind)[args] if args else kind
    return substituted(_with_self(hint, own), _bindings(kind, args))


def is_unpack(annotation: object) -> bool:
    """Return whether it is Unpack[...]. That of `typing_extensions` is an object of its own."""
    origin = typing.get_origin(annotation)
    return origin is typing.Unpack or getattr(origin, "_name", None) == "Unpack"


def _with_self(hint: object, kind: object) -> object:
    """Return the type with the class in place of Self."""
    if hint is typing.Self or getattr(hint, "_name", None) == "Self":
        return kind
    args = typing.get_args(hint)
    found = tuple(_with_self(arg, kind) for arg in args)
    if all(one is arg for one, arg in zip(found, args, strict=True)):
        return hint
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return typing.Union[found]  # noqa: UP007 - of arguments that are known only here
    if origin is typing.Annotated:
        return found[0]
    copy: Callable[[tuple[object, ...]], object] | None = getattr(hint, "copy_with", None)
    return copy(found) if copy is not None else cast("_Generic", origin)[found]


def _bindings(kind: object, args: tuple[object, ...]) -> dict[object, object]:
    """Return what the type variables of a class and its bases stand for."""
    found: dict[object, object] = dict(zip(getattr(kind, "__parameters__", ()), args, strict=False))
    for base in getattr(kind, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if origin is not None and origin is not typing.Generic:
            inner = tuple(substituted(arg, found) for arg in typing.get_args(base))
            for variable, meant in _bindings(origin, inner).items():
                # A variable with two meanings is useless: fields of that type are not converted.
                found[variable] = meant if found.get(variable, meant) == meant else object
    return found


def substituted(hint: object, given: dict[object, object]) -> object:
    """Return the type with its type variables replaced."""
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    variables: tuple[object, ...] = () if isinstance(hint, type) else getattr(hint, "__parameters__", ())
    if not given or not variables:
        return hint
    return cast("_Generic", hint)[tuple(given.get(one, one) for one in variables)]
