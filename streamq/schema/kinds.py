"""The JSON Schema of a type: what the JSON of its values looks like.

Owns that translation. A type that it does not know is named under `x-python`, and any change of it counts.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import types
import typing
import uuid
from typing import Any, Final

from streamq.convert.compile import unwrapped
from streamq.convert.records import field_types, is_named_tuple, is_typed_dict

Schema = dict[str, Any]
_SIMPLE: Final[dict[object, str]] = {
    bool: "boolean", int: "integer", float: "number", str: "string", None: "null", type(None): "null",
}  # fmt: skip
_TEXTS: Final[dict[object, str]] = {
    dt.datetime: "date-time", dt.date: "date", dt.time: "time",
    dt.timedelta: "duration", uuid.UUID: "uuid", decimal.Decimal: "decimal", bytes: "byte",
    pathlib.Path: "path",
}  # fmt: skip
_LISTS: Final = (
    list,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Iterable,
    collections.abc.Set,
)
_MAPPINGS: Final = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def schema_of(annotation: object, within: tuple[object, ...] = ()) -> Schema:
    """Return the schema of an annotation. within: the record types that contain it."""
    kind = unwrapped(annotation)
    if kind is Any or kind is object:
        return {}
    simple = next((name for known, name in _SIMPLE.items() if kind is known), None)
    if simple is not None:
        return {"type": simple}
    text = next((name for known, name in _TEXTS.items() if kind is known), None)
    if text is not None:
        return {"type": "string", "format": text}
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(one, within) for one in args]}
    if origin is typing.Literal:
        return {"enum": list(args)}
    return _container(origin or kind, args, within) or _class(kind, within)


def _container(origin: Any, args: tuple[Any, ...], within: tuple[object, ...]) -> Schema:
    if origin is tuple and args and args[-1] is not Ellipsis:
        return {"type": "array", "prefixItems": [schema_of(one, within) for one in args]}
    if origin in _LISTS or origin is tuple:
        return {"type": "array", "items": schema_of(args[0], within) if args else {}}
    if origin in _MAPPINGS:
        return {"type": "object", "additionalProperties": schema_of(args[1], within) if args else {}}
    return {}


def _class(kind: Any, within: tuple[object, ...]) -> Schema:
    named = {"x-python": f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', kind)}"}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [one.value if _plain(one.value) else one.name for one in kind]}
    if kind in within:
        return named
    if hasattr(kind, "model_json_schema"):
        found: Schema = kind.model_json_schema()
        return found
    origin = typing.get_origin(kind) or kind
    if not (dataclasses.is_dataclass(origin) or is_named_tuple(origin) or is_typed_dict(origin)):
        return named
    fields = field_types(origin, typing.get_args(kind))  # type: ignore[arg-type]
    return {
        "type": "object",
        "properties": {name: schema_of(hint, (*within, kind)) for name, hint in fields.items()},
        "required": sorted(_required(origin, fields)),
    }


def _required(kind: Any, fields: dict[str, object]) -> set[str]:
    if is_typed_dict(kind):
        return set(kind.__required_keys__)
    if is_named_tuple(kind):
        return set(fields) - set(kind._field_defaults)  # pyright: ignore[reportPrivateUsage]
    optional = (dataclasses.MISSING, dataclasses.MISSING)
    return {
        one.name
        for one in dataclasses.fields(kind)
        if one.init and (one.default, one.default_factory) == optional
    }


def _plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)
