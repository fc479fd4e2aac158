"""Convert dataclasses, NamedTuples and TypedDicts: objects whose fields have their own converters.

Owns how such an object is rebuilt. If a class runs its own code on construction, each value is rebuilt and
compared before it is sent.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, TypeGuard, cast

from streamq.convert.containers import check_base
from streamq.convert.converter import (
    STATE,
    Converter,
    EncodeError,
    decode_error,
    kind_of,
    under,
    unexpected_type,
)
from streamq.convert.generics import as_meant
from streamq.convert.round_trip import check_same
from streamq.convert.untyped import or_none
from streamq.errors import DecodeError, InvalidArguments

Fields = Mapping[str, Converter]
_OBJECT: Final[frozenset[type]] = frozenset({dict})
_BUILT_IN: Final = (str, int, float, dict, list, set, frozenset, tuple)


class NamedTupleClass(Protocol):
    """What a NamedTuple's class has besides a tuple's."""

    __name__: str
    __mro__: tuple[type, ...]
    _fields: tuple[str, ...]
    _field_defaults: Mapping[str, object]

    def __call__(self, **fields: object) -> tuple[object, ...]: ...


class TypedDictClass(Protocol):
    """What a TypedDict's class has besides a dict's."""

    __name__: str
    __required_keys__: frozenset[str]


def is_record(kind: object) -> bool:
    """Return whether a class is one of this module's."""
    return dataclasses.is_dataclass(kind) or is_named_tuple(kind) or is_typed_dict(kind)


def is_named_tuple(kind: object) -> TypeGuard[NamedTupleClass]:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _names(kind: NamedTupleClass) -> tuple[str, ...]:
    return kind._fields  # pyright: ignore[reportPrivateUsage]


def is_typed_dict(kind: object) -> TypeGuard[TypedDictClass]:
    return typing.is_typeddict(kind) or hasattr(kind, "__required_keys__")


def record(kind: type, fields: Fields) -> Converter:
    """Return the converter for a record class, given the converters of its fields."""
    if is_typed_dict(kind):
        return _typed_dict(kind, fields)
    if is_named_tuple(kind):
        return _named_tuple(kind, fields)
    return _dataclass(kind, fields)


def _dataclass(kind: type, fields: Fields) -> Converter:
    _check_class(kind)
    later = {f.name for f in _fields_of(kind) if not f.init}
    required = _required(kind)
    name, checked = kind.__name__, not _is_generated(kind)

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise decode_error(name, data)
        check_names(name, data, fields, required)
        read = {field: _read(field, fields[field], item) for field, item in data.items()}
        made = _construct(kind, {field: item for field, item in read.items() if field not in later})
        for field in later & read.keys():
            object.__setattr__(made, field, read[field])
        return made

    def encode(value: object) -> object:
        if value.__class__ is not kind:
            raise EncodeError(
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


def _fields_of(kind: type) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()


def _check_class(kind: type) -> None:
    for name, field in getattr(kind, "__dataclass_fields__", {}).items():
        initvar = getattr(field, "_field_type", None) is getattr(dataclasses, "_FIELD_INITVAR", object)
        if initvar and field.default is dataclasses.MISSING:
            raise InvalidArguments(
                f"dataclass {kind.__qualname__} cannot be an argument: its InitVar {name!r} is not kept, so "
                "it cannot be rebuilt. Give it a default, or make it a field"
            )
    if issubclass(kind, _BUILT_IN):
        raise InvalidArguments(
            f"dataclass {kind.__qualname__} cannot be an argument: it is also a {kind.__mro__[-2].__name__}, "
            "whose content is not a field"
        )


def _required(kind: type) -> set[str]:
    missing = dataclasses.MISSING
    return {
        f.name for f in _fields_of(kind) if f.init and f.default is missing and f.default_factory is missing
    }


def _is_generated(kind: type) -> bool:
    """Return whether construction runs only generated code, which cannot change a field."""
    code = getattr(vars(kind).get("__init__"), "__code__", None)
    return (
        code is not None
        and code.co_filename == "<string>"
        and not hasattr(kind, "__post_init__")
        and not any("__new__" in vars(base) for base in kind.__mro__ if base is not object)
        and (_is_frozen(kind) or not any("__setattr__" in vars(base) for base in kind.__mro__[:-1]))
        and type(kind) is type
        and not any(_is_descriptor(vars(base).get(f.name)) for f in _fields_of(kind) for base in kind.__mro__)
    )


def _is_frozen(kind: type) -> bool:
    """Return whether its attributes are set by dataclasses' own code, past a `__setattr__` of the class."""
    return bool(getattr(getattr(kind, "__dataclass_params__", None), "frozen", False))


def _is_descriptor(held: object) -> bool:
    """Return whether an attribute is a descriptor with code of its own; a slot is not."""
    return hasattr(type(held), "__set__") and type(held).__name__ != "member_descriptor"


def _named_tuple(kind: NamedTupleClass, fields: Fields) -> Converter:
    names, exact = _names(kind), cast("object", kind)
    required = set(names) - set(kind._field_defaults)  # pyright: ignore[reportPrivateUsage]
    name, checked = kind.__name__, kind.__mro__[1] is not tuple

    def decode(data: object) -> object:
        if isinstance(data, list) and len(data) <= len(names):
            data = dict(zip(names, data, strict=False))
        if not isinstance(data, dict):
            raise decode_error(name, data)
        check_names(name, data, fields, required)
        return _construct(kind, {field: _read(field, fields[field], item) for field, item in data.items()})

    def encode(value: object) -> object:
        if value.__class__ is not exact or not isinstance(value, tuple):
            raise unexpected_type(f"a {name}", value)
        data = [_write(field, fields[field], item) for field, item in zip(names, value, strict=True)]
        if checked and not STATE.trusting:
            _check(name, decode, data, value)
        return data

    return Converter(name, encode, decode, frozenset({list}))


def _typed_dict(kind: TypedDictClass, fields: Fields) -> Converter:
    required, name = _required_keys(kind), kind.__name__

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise decode_error(name, data)
        check_names(name, data, fields, required)
        return {field: _read(field, fields[field], item) for field, item in data.items()}

    def encode(value: object) -> object:
        if not isinstance(value, Mapping):
            raise unexpected_type(f"a {name} (a dict)", value)
        try:
            check_names(name, value, fields, required)
        except DecodeError as error:
            raise EncodeError(str(error), wrong_type=True) from None
        data = {str(field): _write(field, fields[field], item) for field, item in value.items()}
        check_base(value, dict, "dict")
        return data

    return Converter(name, encode, decode, _OBJECT, (set(fields), required))


def _required_keys(kind: TypedDictClass) -> set[str]:
    """Return a TypedDict's required keys. Python itself does not see Required in string annotations."""
    hints = typing.get_type_hints(kind, include_extras=True)
    qualifiers = {name: getattr(typing.get_origin(hint), "_name", None) for name, hint in hints.items()}
    return {
        name
        for name in hints
        if qualifiers[name] == "Required"
        or (qualifiers[name] != "NotRequired" and name in kind.__required_keys__)
    }


def check_names(name: str, given: Iterable[object], known: Iterable[str], required: set[str]) -> None:
    """Raise DecodeError if names are missing or unknown."""
    extra, missing = set(given) - set(known), required - set(given)
    if extra or missing:
        parts = [
            f"{', '.join(sorted(map(str, names)))} {word}"
            for names, word in ((missing, "missing"), (extra, "unknown"))
            if names
        ]
        raise DecodeError(f"{name}: {'; '.join(parts)}", reason="arguments")


def _construct(kind: Callable[..., object], fields: dict[str, object]) -> object:
    try:
        return kind(**fields)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise DecodeError(f"cannot construct {kind.__name__}: {what}", reason="arguments") from error


def _check(name: str, decode: Callable[[object], object], data: object, value: object) -> None:
    """Raise EncodeError if the class does not rebuild to an equal value from its own fields."""
    try:
        back = decode(data)
    except DecodeError as error:
        raise EncodeError(f"{name} cannot be rebuilt from its fields: {error}") from None
    try:
        check_same(value, back)
    except EncodeError as refused:
        refused.fault += (
            f": {name} runs code of its own when it is constructed. Make that code keep the field values"
        )
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
    except EncodeError as refused:
        raise refused.under(f".{field}") from None


def field_types(kind: type | TypedDictClass, args: tuple[object, ...]) -> dict[str, object]:
    """Return the fields of a record class with their types. args: the type arguments of a generic class."""
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise InvalidArguments(f"cannot resolve an annotation of {kind.__name__}: {error}") from None
    defaults: Mapping[str, object] = {}
    if dataclasses.is_dataclass(kind):
        defaults = {field.name: field.default for field in _fields_of(kind)}
        names: Iterable[str] = defaults
    elif is_named_tuple(kind):
        names, defaults = _names(kind), kind._field_defaults  # pyright: ignore[reportPrivateUsage]
    else:
        names = hints
    return {
        name: or_none(as_meant(hints.get(name, object), kind, args), defaults.get(name, object))
        for name in names
    }
