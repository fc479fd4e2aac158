"""Convert Enum, Flag and Literal: a closed set of values.

Owns how each member is written: as its value if JSON can hold that, else as its name.
"""

from __future__ import annotations

from enum import Enum, Flag
from typing import Final

import orjson

from streamq.convert.converter import SCALARS, Converter, EncodeError, decode_error, short, unexpected_type
from streamq.convert.one_way import to_data
from streamq.errors import InvalidArguments

_Data = tuple[type, object]


def enum(kind: type[Enum]) -> Converter:
    """Return the converter for the members of an Enum, and for all combinations of a Flag."""
    written = {member.name: _written(kind, member) for member in kind}
    table: dict[_Data, Enum] = {}
    for member in kind:
        data = written[member.name]
        if table.setdefault((data.__class__, data), member) is not member:
            raise InvalidArguments(
                f"{kind.__qualname__}.{member.name} would be written as {data!r}, like another member: "
                "give one of them another name or value"
            )
    older = _legacy_data(kind, written)
    whole = frozenset(data.__class__ for data in written.values())

    def decode(data: object) -> object:
        if data.__class__ in SCALARS and (found := table.get((data.__class__, data))) is not None:
            return found
        try:
            found = older.get(orjson.dumps(data)) if older else None
            found = kind(data) if found is None else found
        except (ValueError, TypeError, KeyError):
            raise decode_error(kind.__name__, data) from None
        if _is_other_number(data, found):
            raise decode_error(kind.__name__, data)
        return found

    def encode(value: object) -> object:
        member = value if isinstance(value, kind) else _member_of(kind, value)
        name = str(member.name)
        if name not in written and not isinstance(member, Flag):
            raise EncodeError(
                f"{short(value)} is not a named member of {kind.__name__}, so it cannot be decoded"
            )
        return written.get(name, member.value)

    return Converter(kind.__name__, encode, decode, whole)


def _member_of(kind: type[Enum], value: object) -> Enum:
    """Return the member that a plain value is equal to, as 1 is to a member of an IntEnum."""
    try:
        found = kind(value)
    except (ValueError, TypeError):
        found = None
    if found is None or not found == value or _is_other_number(value, found):
        raise unexpected_type(f"a {kind.__name__}", value)
    return found


def _is_other_number(value: object, member: Enum) -> bool:
    """Return whether a value is of another number type than the member's value, as True and 1.0 are to 1."""
    held = member.value
    numbers = (bool, int, float)
    return value.__class__ in numbers and held.__class__ in numbers and value.__class__ is not held.__class__


def _written(kind: type[Enum], member: Enum) -> object:
    """Return the member's value if JSON maps it back to this member, else its name."""
    value = member.value
    try:
        if value.__class__ in SCALARS and orjson.loads(orjson.dumps(value)) == value:
            return value if kind(value) is member else member.name
    except (ValueError, TypeError):
        pass
    return member.name


def _legacy_data(kind: type[Enum], written: dict[str, object]) -> dict[bytes, Enum]:
    """Return members by the data that earlier releases wrote for values that are not JSON scalars."""
    found: dict[bytes, Enum] = {}
    for member in kind:
        if written[member.name] is not member.value:
            try:
                found.setdefault(orjson.dumps(to_data(member.value)), member)
            except (EncodeError, TypeError, ValueError):
                continue
    return found


def literal(args: tuple[object, ...]) -> Converter:
    """Return the converter for Literal[...]. Values are distinguished by class too: True from 1."""
    members = [(arg, _literal_data(arg)) for arg in args]
    names = ", ".join(map(repr, args))

    def decode(data: object) -> object:
        for arg, written in members:
            if data.__class__ is written.__class__ and data == written:
                return arg
        raise decode_error(f"one of {names}", data)

    def encode(value: object) -> object:
        for arg, written in members:
            if value == arg and (value.__class__ is arg.__class__ or _stands_for(value, arg)):
                back = decode(written)
                if back.__class__ is not arg.__class__ or back != arg:
                    raise EncodeError(f"{short(value)} would come back as {short(back)}")
                return written
        raise EncodeError(f"expected one of {names}, got {short(value)}")

    return Converter(f"one of {names}", encode, decode, frozenset(data.__class__ for _, data in members))


def _stands_for(value: object, arg: object) -> bool:
    return isinstance(value, arg.__class__) and not isinstance(value, bool) and not isinstance(arg, Enum)


def _literal_data(arg: object) -> object:
    if isinstance(arg, Enum):
        return _ENUM_OF.setdefault(arg.__class__, enum(arg.__class__)).encode(arg)
    if arg.__class__ not in SCALARS:
        raise InvalidArguments(f"Literal[{arg!r}] cannot be an argument: JSON has no {type(arg).__name__}")
    return arg


_ENUM_OF: Final[dict[type[Enum], Converter]] = {}
