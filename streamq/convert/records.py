"""Dataclasses, NamedTuples and TypedDicts: objects with fields, each with a converter of its own.

Owns how such an object is made anew. Where a class has code that runs then, each value is made anew before it
is sent, and compared.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from streamq.convert.containers import check_base
from streamq.convert.converter import STATE, Converter, Refused, kind_of, misfit, under, wrong
from streamq.convert.same import check_same
from streamq.errors import DecodeError, InvalidArguments

Fields = Mapping[str, Converter]
_OBJECT: Final[frozenset[type]] = frozenset({dict})
_BUILT_IN: Final = (str, int, float, dict, list, set, frozenset, tuple)


def is_record(kind: Any) -> bool:
    """Whether a class is one of this module's."""
    return dataclasses.is_dataclass(kind) or is_named_tuple(kind) or is_typed_dict(kind)


def is_named_tuple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def is_typed_dict(kind: Any) -> bool:
    return typing.is_typeddict(kind) or hasattr(kind, "__required_keys__")


def record(kind: Any, fields: Fields) -> Converter:
    """The converter for a record class, of the converters of its fields."""
    if is_typed_dict(kind):
        return _typed_dict(kind, fields)
    if is_named_tuple(kind):
        return _named_tuple(kind, fields)
    return _dataclass(kind, fields)


def _dataclass(kind: Any, fields: Fields) -> Converter:
    _check_class(kind)
    later = {f.name for f in dataclasses.fields(kind) if not f.init}
    required = _required(kind)
    name, checked = kind.__name__, not _is_generated(kind)

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise misfit(name, data)
        check_names(name, data, fields, required)
        read = {field: _read(field, fields[field], item) for field, item in data.items()}
        made = _made(kind, {field: item for field, item in read.items() if field not in later})
        for field in later & read.keys():
            object.__setattr__(made, field, read[field])
        return made

    def encode(value: object) -> object:
        if value.__class__ is not kind:
            raise Refused(
                f"{kind_of(value)} would come back as {name}: pass a {name}, or annotate its own class"
            )
        data = {
            field: _write(field, one, getattr(value, field))
            for field, one in fields.items()
            if field not in later or hasattr(value, field)
        }
        if checked and not STATE.trusting:
            _check(name, decode, data, value)
        return data

    return Converter(name, encode, decode, _OBJECT, (set(fields), required))


def _check_class(kind: Any) -> None:
    for name, field in getattr(kind, "__dataclass_fields__", {}).items():
        initvar = getattr(field, "_field_type", None) is getattr(dataclasses, "_FIELD_INITVAR", object)
        if initvar and field.default is dataclasses.MISSING:
            raise InvalidArguments(
                f"dataclass {kind.__qualname__} cannot be an argument: its InitVar {name!r} is not kept, so "
                "it cannot be made anew. Give it a default, or make it a field"
            )
    if issubclass(kind, _BUILT_IN):
        raise InvalidArguments(
            f"dataclass {kind.__qualname__} cannot be an argument: it is also a {kind.__mro__[-2].__name__}, "
            "whose content is no field"
        )


def _required(kind: Any) -> set[str]:
    missing = dataclasses.MISSING
    return {
        f.name
        for f in dataclasses.fields(kind)
        if f.init and f.default is missing and f.default_factory is missing
    }


def _is_generated(kind: Any) -> bool:
    """Whether making one runs no code but that which dataclasses write: then nothing can change in it."""
    code = getattr(kind.__init__, "__code__", None)
    return (
        code is not None
        and code.co_filename == "<string>"
        and not hasattr(kind, "__post_init__")
        and kind.__new__ is object.__new__
        and "__init__" in vars(kind)
        and type(kind) is type
        and not any(
            _is_descriptor(vars(base).get(f.name)) for f in dataclasses.fields(kind) for base in kind.__mro__
        )
    )


def _is_descriptor(held: object) -> bool:
    """Whether an attribute has code of its own; a slot has none."""
    return hasattr(type(held), "__set__") and type(held).__name__ != "member_descriptor"


def _named_tuple(kind: Any, fields: Fields) -> Converter:
    names: tuple[str, ...] = kind._fields
    required = set(names) - set(kind._field_defaults)
    name, checked = kind.__name__, kind.__mro__[1] is not tuple

    def decode(data: object) -> object:
        if isinstance(data, list) and len(data) <= len(names):
            data = dict(zip(names, data, strict=False))
        if not isinstance(data, dict):
            raise misfit(name, data)
        check_names(name, data, fields, required)
        return _made(kind, {field: _read(field, fields[field], item) for field, item in data.items()})

    def encode(value: object) -> object:
        if value.__class__ is not kind or not isinstance(value, tuple):
            raise wrong(f"a {name}", value)
        data = [_write(field, fields[field], item) for field, item in zip(names, value, strict=True)]
        if checked and not STATE.trusting:
            _check(name, decode, data, value)
        return data

    return Converter(name, encode, decode, frozenset({list}))


def _typed_dict(kind: Any, fields: Fields) -> Converter:
    required, name = _required_keys(kind), kind.__name__

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise misfit(name, data)
        check_names(name, data, fields, required)
        return {field: _read(field, fields[field], item) for field, item in data.items()}

    def encode(value: object) -> object:
        if not isinstance(value, Mapping):
            raise wrong(f"a {name} (a dict)", value)
        try:
            check_names(name, value, fields, required)
        except DecodeError as error:
            raise Refused(str(error), unfit=True) from None
        data = {str(field): _write(field, fields[field], item) for field, item in value.items()}
        check_base(value, dict, "dict")
        return data

    return Converter(name, encode, decode, _OBJECT, (set(fields), required))


def _required_keys(kind: Any) -> set[str]:
    """Those of a TypedDict. Python itself sees no Required in annotations that are text."""
    hints = typing.get_type_hints(kind, include_extras=True)
    said = {name: getattr(typing.get_origin(hint), "_name", None) for name, hint in hints.items()}
    return {
        name
        for name in hints
        if said[name] == "Required" or (said[name] != "NotRequired" and name in kind.__required_keys__)
    }


def check_names(name: str, given: Iterable[object], known: Iterable[str], required: set[str]) -> None:
    """Raise DecodeError where names are missing or unknown."""
    extra, missing = set(given) - set(known), required - set(given)
    if extra or missing:
        parts = [
            f"{', '.join(sorted(map(str, names)))} {word}"
            for names, word in ((missing, "missing"), (extra, "unknown"))
            if names
        ]
        raise DecodeError(f"{name}: {'; '.join(parts)}", reason="arguments")


def _made(kind: Callable[..., object], fields: dict[str, object]) -> object:
    try:
        return kind(**fields)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise DecodeError(f"{kind.__name__} cannot be made: {what}", reason="arguments") from error


def _check(name: str, decode: Callable[[object], object], data: object, value: object) -> None:
    """Raise Refused where the class makes something else of its own fields."""
    try:
        back = decode(data)
    except DecodeError as error:
        raise Refused(f"{name} cannot be made anew of its fields: {error}") from None
    try:
        check_same(value, back)
    except Refused as refused:
        refused.fault += f", since {name} has code that runs when one is made: make it keep what it is given"
        raise


def _read(field: str, converter: Converter, data: object) -> object:
    if converter.decode is None or data.__class__ in converter.kinds:
        return data
    try:
        return converter.decode(data)
    except DecodeError as error:
        raise under(f".{field}", error) from None


def _write(field: str, converter: Converter, value: object) -> object:
    if value.__class__ in converter.kinds:
        return value
    try:
        return converter.encode(value)
    except Refused as refused:
        raise refused.under(f".{field}") from None


def field_types(kind: Any, args: tuple[object, ...]) -> dict[str, object]:
    """The fields of a record class with their types. args: those of a generic one."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise InvalidArguments(
            f"an annotation of {kind.__qualname__} names something unknown: {error}"
        ) from None
    if dataclasses.is_dataclass(kind):
        names: Iterable[str] = [f.name for f in dataclasses.fields(kind)]
    else:
        names = kind._fields if is_named_tuple(kind) else hints
    given = _bindings(kind, args)
    return {name: substituted(hints.get(name, object), given) for name in names}


def _bindings(kind: Any, args: tuple[object, ...]) -> dict[object, object]:
    """What the type variables of a class and its bases stand for."""
    found: dict[object, object] = dict(zip(getattr(kind, "__parameters__", ()), args, strict=False))
    for base in getattr(kind, "__orig_bases__", ()):
        origin = typing.get_origin(base)
        if origin is not None and origin is not typing.Generic:
            inner = tuple(substituted(arg, found) for arg in typing.get_args(base))
            for variable, meant in _bindings(origin, inner).items():
                # One variable with two meanings is of no use: what it types is then not converted.
                found[variable] = meant if found.get(variable, meant) == meant else object
    return found


def substituted(hint: object, given: dict[object, object]) -> object:
    """The type with its variables replaced by what they stand for."""
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    variables: tuple[object, ...] = () if isinstance(hint, type) else getattr(hint, "__parameters__", ())
    generic: Any = hint
    if not given or not variables:
        return hint
    made: object = generic[tuple(given.get(one, one) for one in variables)]
    return made
