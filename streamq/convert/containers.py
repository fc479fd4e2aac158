"""Convert lists, sets, tuples, mappings and their kinds: the items and the whole.

Owns which class each annotation decodes to. The items' converters are given.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, abc, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import orjson

from streamq.convert.converter import (
    SCALARS,
    Convert,
    Converter,
    EncodeError,
    decode_error,
    kind_of,
    under,
    unexpected_type,
)
from streamq.convert.json_scalars import unexpected_value
from streamq.convert.round_trip import same
from streamq.convert.untyped import PLAIN, exact, text_key, walk
from streamq.errors import DecodeError

LISTS: Final[tuple[object, ...]] = (
    list,
    abc.Sequence,
    abc.Iterable,
    abc.Collection,
    abc.MutableSequence,
    abc.Reversible,
)
Make = Callable[[Any], Any]
"""A class that is constructed from the items, or from a dict."""
SETS: Final[tuple[object, ...]] = (set, abc.Set, abc.MutableSet)
MAPPINGS: Final[dict[object, Make]] = {
    dict: dict, abc.Mapping: dict, abc.MutableMapping: dict, OrderedDict: OrderedDict, Counter: Counter,
}  # fmt: skip
_JSON_LIST: Final[frozenset[type]] = frozenset({list})
_TEXT: Final[frozenset[type]] = frozenset({str})


def items(values: Iterable[object], convert: Convert) -> list[object]:
    """Convert each item. An error names the item's position."""
    found: list[object] = []
    n = 0
    try:
        for n, item in enumerate(values):  # noqa: B007 - the error needs it
            found.append(convert(item))
    except EncodeError as refused:
        raise refused.under(f"[{n}]") from None
    except DecodeError as error:
        raise under(f"[{n}]", error) from None
    return found


def lists(inner: Converter) -> Converter:
    """Return the converter for list[T] and its abstract base classes, which all decode to a list."""
    return _plain_list(inner) if inner.plain else _iterable("list", list, (list,), inner)


def _plain_list(inner: Converter) -> Converter:
    """Return the converter for a list of JSON values: checked, neither copied nor rebuilt."""
    kinds, read = inner.kinds, inner.decode

    def decode(data: object) -> object:
        if not isinstance(data, list):
            raise decode_error("a list", data)
        if read is not None and not kinds.issuperset(map(type, data)):
            items(data, inner.read)
        return data

    def encode(value: object) -> object:
        if not isinstance(value, list):
            raise unexpected_value("a list", value)
        if inner is PLAIN:
            return exact(value)
        if value.__class__ is list and kinds.issuperset(map(type, value)):
            return value
        found = items(value, inner.write)
        if value.__class__ is not list and found != value:
            raise EncodeError(f"{kind_of(value)} would come back as a list that is not equal to it")
        return found

    return Converter("list", encode, decode, _JSON_LIST, plain=True)


def sets(kind: type, inner: Converter) -> Converter:
    """Return the converter for set[T] or frozenset[T]."""
    return _iterable(kind.__name__, kind, (set, frozenset), inner)


def deques(inner: Converter) -> Converter:
    """Return the converter for deque[T]. A deque with a maxlen is refused: it would come back without it."""
    found = _iterable("deque", deque, (deque,), inner)
    plain = found.encode

    def encode(value: object) -> object:
        if getattr(value, "maxlen", None) is not None:
            raise EncodeError("a deque's maxlen would be lost: pass a list")
        return plain(value)

    return Converter(found.name, encode, found.decode, found.json)


def _iterable(name: str, make: Make, takes: tuple[type, ...], inner: Converter) -> Converter:
    kinds, write, read = inner.kinds, inner.write, inner.read
    unordered = set in takes

    def decode(data: object) -> object:
        if not isinstance(data, list):
            raise decode_error("a list", data)
        found = data if inner.decode is None or kinds.issuperset(map(type, data)) else items(data, read)
        try:
            return make(found)
        except TypeError:  # an item that cannot be in a set
            raise decode_error(f"items of a {name}", data) from None

    def encode(value: object) -> object:
        if not isinstance(value, takes):
            raise unexpected_type(f"a {name}", value, f"pass {name}(…), or annotate its own type")
        given = cast("Iterable[object]", value)
        ordered = sorted_items(given) if unordered else list(given)
        found = ordered if kinds.issuperset(map(type, ordered)) else items(ordered, write)
        if not unordered and value.__class__ not in takes and not make(value) == value:
            raise EncodeError(f"{kind_of(value)} would come back as a {name} that is not equal to it")
        if unordered and not SCALARS.issuperset(map(type, found)):
            _check_hashable(name, decode, found)
        return found

    return Converter(name, encode, decode, _JSON_LIST)


def _check_hashable(name: str, decode: Convert, data: object) -> None:
    """Raise EncodeError if an item would come back as one that no set can hold, as a tuple does as a list."""
    try:
        decode(data)
    except DecodeError:
        raise EncodeError(
            f"its items would come back as lists or dicts, which no {name} can hold: annotate what they are"
        ) from None


def sorted_items(values: Iterable[Any]) -> list[object]:
    """Sort, so that equal sets are written alike in every process: idempotency keys compare payloads."""
    found = list(values)
    try:
        # Comparing sets tests inclusion, which is not a total order.
        return sorted(found, key=repr) if any(isinstance(one, frozenset) for one in found) else sorted(found)
    except (TypeError, ArithmeticError):
        return sorted(found, key=repr)


def fixed(inner: list[Converter]) -> Converter:
    """Return the converter for tuple[A, B]: a fixed number of items, each with its own type."""
    many = len(inner)

    def decode(data: object) -> object:
        if not isinstance(data, list) or len(data) != many:
            raise decode_error(f"a list of {many}", data)
        return tuple(_each(data, [one.read for one in inner]))

    def encode(value: object) -> object:
        if not isinstance(value, tuple) or len(value) != many:
            had = f"one of {len(value)}" if isinstance(value, tuple) else kind_of(value)
            raise EncodeError(f"expected a tuple of {many}, got {had}")
        return _each(value, [one.encode for one in inner])

    return Converter("tuple", encode, decode, _JSON_LIST)


def _each(values: Iterable[object], converts: list[Convert]) -> list[object]:
    turn = iter(converts)
    return items(values, lambda item: next(turn)(item))  # noqa: PLW0108 - a different converter for each item


def variadic(inner: Converter) -> Converter:
    """Return the converter for tuple[T, ...]."""
    return _iterable("tuple", tuple, (tuple,), inner)


def mapping(make: Make, keys: Converter | None, inner: Converter) -> Converter:
    """Return the converter for dict[K, V] and its kinds. keys: None if the keys are str."""
    if keys is None and inner.plain and make is dict:
        return _plain_mapping(inner)
    name: str = getattr(make, "__name__", "dict")
    write_key = cast("Callable[[object], str]", (keys or TEXT_KEYS).encode)

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise decode_error("an object", data)
        found: dict[object, object] = {}
        for key, item in data.items():
            try:
                found[key if keys is None else keys.read(key)] = inner.read(item)
            except DecodeError as error:
                raise under(f".{key}", error) from None
            except TypeError:  # such as a tuple that holds a list
                raise decode_error("a key that can be hashed", key) from None
        return found if make is dict else make(found)

    def encode(value: object) -> object:
        if not isinstance(value, abc.Mapping if make is dict else make):  # type: ignore[arg-type]
            raise unexpected_type(f"a {name}", value)
        return _entries(cast("abc.Mapping[object, object]", value), make, name, write_key, inner)

    return Converter(name, encode, decode, frozenset({dict}))


def _entries(
    value: abc.Mapping[object, object],
    make: Make,
    name: str,
    write_key: Callable[[object], str],
    inner: Converter,
) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, item in value.items():
        written = write_key(key)
        if written in found:
            raise EncodeError(f"two of its keys would be written alike, as {written!r:.60}")
        found[written] = _entry(key, item, inner.write)
    check_base(value, make, name)
    return found


def _plain_mapping(inner: Converter) -> Converter:
    """Return the converter for a dict[str, T] of values that are JSON already: checked, neither copied nor
    rebuilt."""
    kinds, read = inner.kinds, inner.decode

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise decode_error("an object", data)
        if read is not None and not kinds.issuperset(map(type, data.values())):
            for key, item in data.items():
                try:
                    inner.read(item)
                except DecodeError as error:
                    raise under(f".{key}", error) from None
        return data

    def encode(value: object) -> object:
        if not isinstance(value, abc.Mapping):
            raise unexpected_value("a dict", value)
        if inner is PLAIN:
            return exact(value)
        if (
            value.__class__ is dict
            and _TEXT.issuperset(map(type, value))
            and kinds.issuperset(map(type, value.values()))
        ):
            return value
        return _entries(value, dict, "dict", _text_key, inner)

    return Converter("dict", encode, decode, frozenset({dict}), plain=True)


def check_base(value: abc.Mapping[object, object], make: Make, name: str) -> None:
    """Raise EncodeError if a mapping of another class holds more than the class it is decoded to."""
    if value.__class__ is not make and make(dict(value.items())) != value:
        raise EncodeError(f"{kind_of(value)} would come back as a {name} that is not equal to it")


def _entry(key: object, item: object, convert: Convert) -> object:
    try:
        return convert(item)
    except EncodeError as refused:
        raise refused.under(f".{key}") from None


def _text_key(key: object) -> str:
    return text_key(key)


TEXT_KEYS: Final = Converter("str", _text_key, None)
"""For keys that are text already."""


def keys(inner: Converter) -> Converter:
    """Return the converter for a dict's keys: a key that is not text in JSON is written as JSON text."""

    def decode(name: object) -> object:
        for data in _meanings(name, inner):
            try:
                return inner.read(data)
            except DecodeError:
                continue
        raise decode_error(f"a key that is {inner.name}", name)

    def encode(key: object) -> str:
        try:
            data = inner.encode(key)
        except EncodeError as refused:
            fault = f"the key {key!r:.60}: {refused.fault}"
            raise EncodeError(fault, changed=refused.changed, wrong_type=refused.wrong_type) from None
        name = data if isinstance(data, str) else _json_text(key, data)
        try:
            back = decode(name)
        except DecodeError:
            back = None
        if not same(key, back):
            raise EncodeError(
                f"the key {key!r:.60} would come back as {back!r:.60}: annotate keys of one type"
            )
        return name

    return Converter(inner.name, encode, decode, frozenset({str}))


def _json_text(key: object, data: object) -> str:
    try:
        return orjson.dumps(data).decode()
    except (TypeError, ValueError):
        try:
            walk(data)
        except EncodeError as refused:
            raise EncodeError(f"the key {key!r:.60}: {refused.fault}", changed=False) from None
        raise


def _meanings(name: object, inner: Converter) -> list[object]:
    """Return the JSON values that a key's text can stand for, the form its type is written in first."""
    if inner.json == {str} or not isinstance(name, str):
        return [name]
    try:
        data = orjson.loads(name)
    except ValueError:
        return [name]
    return [data, name]


def _number_key(kind: type) -> Converter:
    def decode(data: object) -> object:
        if data.__class__ is kind:
            return data
        try:
            return kind(data) if isinstance(data, str) and kind is int else _bad_key(kind, data)
        except ValueError:
            return _bad_key(kind, data)

    def encode(value: object) -> object:
        if not isinstance(value, kind):
            raise unexpected_type(f"a key that is {kind.__name__}", value)
        return kind(value)

    return Converter(kind.__name__, encode, decode, frozenset({kind}))


def _bad_key(kind: type, data: object) -> object:
    raise decode_error(f"a key that is {kind.__name__}", data)


NUMBER_KEYS: Final[dict[object, Converter]] = {kind: keys(_number_key(kind)) for kind in (int, bool)}
"""Keys that are JSON scalars elsewhere and text here."""
