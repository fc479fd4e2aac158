"""Converters made of converters: containers, unions, dataclasses, models.

Owns how errors get their place: each level puts its name in front. Compiles inner types through the
`decoder` it is given.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable
from typing import Any

from streamq.errors import DecodeError

Convert = Callable[[Any], Any]
Decoder = Callable[[Any], Convert | None]


def _misfit(wanted: str, value: object) -> DecodeError:
    shown = repr(value)
    return DecodeError(
        f"wanted {wanted}, got {shown[:80]}{'…' if len(shown) > 80 else ''}", reason="arguments"
    )


def _under(name: str, error: DecodeError) -> DecodeError:
    """The error with one more level of its place in front."""
    text = str(error)
    joint = "" if text.startswith(("[", ".")) else ": "
    return DecodeError(f"{name}{joint}{text}", reason=error.reason)


def listed(make: Callable[[Any], Any], inner: Convert | None) -> Convert:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise _misfit("a list", value)
        return make(value if inner is None else _each(value, inner))

    return convert


def _each(values: Iterable[Any], inner: Convert) -> list[Any]:
    found: list[Any] = []
    for n, item in enumerate(values):
        try:
            found.append(inner(item))
        except DecodeError as error:
            raise _under(f"[{n}]", error) from None
    return found


def fixed(args: tuple[Any, ...], decoder: Decoder) -> Convert:
    """tuple[A, B], tuple[A, ...] or a bare tuple."""
    if not args or (len(args) == 2 and args[1] is Ellipsis):
        return listed(tuple, decoder(args[0]) if args else None)
    inner = [decoder(arg) for arg in args]

    def convert(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(inner):
            raise _misfit(f"a list of {len(inner)}", value)
        return tuple(item if one is None else one(item) for one, item in zip(inner, value, strict=True))

    return convert


def mapping(key: Any, item: Any, decoder: Decoder) -> Convert | None:
    keys, items = _key_converter(key, decoder), decoder(item)
    if keys is None and items is None:
        return None

    def convert(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _misfit("an object", value)
        found: dict[Any, Any] = {}
        for name, inner in value.items():
            try:
                found[name if keys is None else keys(name)] = inner if items is None else items(inner)
            except DecodeError as error:
                raise _under(f".{name}", error) from None
        return found

    return convert


def _key_converter(key: Any, decoder: Decoder) -> Convert | None:
    """JSON keys are text: numbers are read back from it."""
    if key in (int, float):
        wanted: type = key

        def convert(name: Any) -> Any:
            try:
                return wanted(name)
            except ValueError:
                raise _misfit(f"a key that is {wanted.__name__}", name) from None

        return convert
    return decoder(key)


_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,), int: (int,), float: (float, int), bool: (bool,), type(None): (type(None),),
    dict: (dict,), list: (list,),
}  # fmt: skip


def union(args: tuple[Any, ...], decoder: Decoder) -> Convert | None:
    """The member whose JSON type it is exactly, else the first that can be made of it."""
    inner = [(arg, decoder(arg)) for arg in args]
    if all(one is None for _, one in inner):
        return None
    converters = [one for _, one in inner if one is not None]
    # Types that convert come before `str`: a date in `date | str` is text in JSON too.
    exact = {kind for arg, one in inner if one is None for kind in _JSON_TYPES.get(arg, ())}
    names = " or ".join(getattr(arg, "__name__", str(arg)) for arg in args)

    def convert(value: Any) -> Any:
        if value.__class__ in exact and value.__class__ is not str:
            return value
        for one in converters:
            try:
                return one(value)
            except DecodeError:
                continue
        if value.__class__ in exact:
            return value
        raise _misfit(names, value)

    return convert


def literal(args: tuple[Any, ...]) -> Convert:
    def convert(value: Any) -> Any:
        if not any(value == arg and value.__class__ is arg.__class__ for arg in args):
            raise _misfit(f"one of {', '.join(map(repr, args))}", value)
        return value

    return convert


def model(kind: Any) -> Convert:
    """A Pydantic model: it validates for itself."""

    def convert(value: Any) -> Any:
        try:
            return kind.model_validate(value)
        except ValueError as error:
            raise DecodeError(f"{kind.__name__}: {error}", reason="arguments") from None

    return convert


def field_types(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass, NamedTuple or TypedDict with their types; {} for anything else."""
    if not isinstance(kind, type):
        return {}
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.init}
    if hasattr(kind, "_fields") or typing.is_typeddict(kind):
        return typing.get_type_hints(kind, include_extras=True)
    return {}


def _required(kind: Any) -> set[str]:
    if dataclasses.is_dataclass(kind):
        missing = dataclasses.MISSING
        return {
            f.name
            for f in dataclasses.fields(kind)
            if f.init and f.default is missing and f.default_factory is missing
        }
    if typing.is_typeddict(kind):
        return set(kind.__required_keys__)
    return set(kind._fields) - set(kind._field_defaults)


def fields(kind: Any, decoder: Decoder) -> Convert:
    """A dataclass, NamedTuple or TypedDict from a JSON object (a NamedTuple also from a list)."""
    known = field_types(kind)
    inner = {name: decoder(annotation) for name, annotation in known.items()}
    required, name_of = _required(kind), kind.__name__

    def convert(value: Any) -> Any:
        if isinstance(value, list) and hasattr(kind, "_fields"):
            value = dict(zip(kind._fields, value, strict=False))
        if not isinstance(value, dict):
            raise _misfit(name_of, value)
        given: dict[str, Any] = value
        _check(name_of, given.keys(), known.keys(), required)
        return kind(**{name: _field(name, inner[name], item) for name, item in given.items()})

    return convert


def _check(name: str, given: Iterable[str], known: Iterable[str], required: set[str]) -> None:
    extra, missing = set(given) - set(known), required - set(given)
    if extra or missing:
        parts = [
            f"{', '.join(sorted(names))} {word}"
            for names, word in ((missing, "missing"), (extra, "unknown"))
            if names
        ]
        raise DecodeError(f"{name}: {'; '.join(parts)}", reason="arguments")


def _field(name: str, inner: Convert | None, value: Any) -> Any:
    if inner is None:
        return value
    try:
        return inner(value)
    except DecodeError as error:
        raise _under(f".{name}", error) from None
