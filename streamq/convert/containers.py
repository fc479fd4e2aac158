"""Lists, sets, tuples and the like: converters of what is in them, and of the whole.

Owns which class comes back for which annotation. The items' converters are given.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, abc, deque
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import orjson

from streamq.convert.converter import Convert, Converter, Refused, kind_of, misfit, under, wrong
from streamq.convert.json_scalars import unfit
from streamq.convert.plain import PLAIN, exact, text_key
from streamq.convert.same import same
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
"""A class whose objects are made of the items, or of a dict."""
SETS: Final[tuple[object, ...]] = (set, abc.Set, abc.MutableSet)
MAPPINGS: Final[dict[object, Make]] = {
    dict: dict, abc.Mapping: dict, abc.MutableMapping: dict, OrderedDict: OrderedDict, Counter: Counter,
}  # fmt: skip
_JSON_LIST: Final[frozenset[type]] = frozenset({list})
_TEXT: Final[frozenset[type]] = frozenset({str})


def items(values: Iterable[object], convert: Convert) -> list[object]:
    """Each one converted; the error says which it was."""
    found: list[object] = []
    n = 0
    try:
        for n, item in enumerate(values):  # noqa: B007 - the error needs it
            found.append(convert(item))
    except Refused as refused:
        raise refused.under(f"[{n}]") from None
    except DecodeError as error:
        raise under(f"[{n}]", error) from None
    return found


def listed(inner: Converter) -> Converter:
    """list[T] and the abstract kinds of it, which all come back as a list."""
    return _plain_list(inner) if inner.plain else _iterable("list", list, (list,), inner)


def _plain_list(inner: Converter) -> Converter:
    """A list of what is JSON as it is: checked, and neither copied nor rebuilt."""
    kinds, read = inner.kinds, inner.decode

    def decode(data: object) -> object:
        if not isinstance(data, list):
            raise misfit("a list", data)
        if read is not None and not kinds.issuperset(map(type, data)):
            items(data, inner.read)
        return data

    def encode(value: object) -> object:
        if not isinstance(value, list):
            raise unfit("a list", value)
        if inner is PLAIN:
            return exact(value)
        if value.__class__ is list and kinds.issuperset(map(type, value)):
            return value
        found = items(value, inner.write)
        if value.__class__ is not list and found != value:
            raise Refused(f"{kind_of(value)} would come back as a list that is not equal to it")
        return found

    return Converter("list", encode, decode, _JSON_LIST, plain=True)


def sets(kind: type, inner: Converter) -> Converter:
    """set[T] and frozenset[T]."""
    return _iterable(kind.__name__, kind, (set, frozenset), inner)


def deques(inner: Converter) -> Converter:
    """deque[T]; one with a limit would come back without it."""
    found = _iterable("deque", deque, (deque,), inner)
    plain = found.encode

    def encode(value: object) -> object:
        if getattr(value, "maxlen", None) is not None:
            raise Refused("a deque's maxlen would be lost: pass a list")
        return plain(value)

    return Converter(found.name, encode, found.decode, found.json)


def _iterable(name: str, make: Make, takes: tuple[type, ...], inner: Converter) -> Converter:
    kinds, write, read = inner.kinds, inner.write, inner.read
    unordered = set in takes

    def decode(data: object) -> object:
        if not isinstance(data, list):
            raise misfit("a list", data)
        return make(data if inner.decode is None or kinds.issuperset(map(type, data)) else items(data, read))

    def encode(value: object) -> object:
        if not isinstance(value, takes):
            raise wrong(f"a {name}", value, f"pass {name}(…), or annotate its own type")
        given = cast("Iterable[object]", value)
        ordered = in_order(given) if unordered else list(given)
        found = ordered if kinds.issuperset(map(type, ordered)) else items(ordered, write)
        if not unordered and value.__class__ not in takes and not make(value) == value:
            raise Refused(f"{kind_of(value)} would come back as a {name} that is not equal to it")
        return found

    return Converter(name, encode, decode, _JSON_LIST)


def in_order(values: Iterable[Any]) -> list[object]:
    """The same for equal sets in every process: an idempotency key compares payloads."""
    found = list(values)
    try:
        # Sets compare by inclusion, which is no order.
        return sorted(found, key=repr) if any(isinstance(one, frozenset) for one in found) else sorted(found)
    except (TypeError, ArithmeticError):
        return sorted(found, key=repr)


def fixed(inner: list[Converter]) -> Converter:
    """tuple[A, B]: so many items, each of its own kind."""
    many = len(inner)

    def decode(data: object) -> object:
        if not isinstance(data, list) or len(data) != many:
            raise misfit(f"a list of {many}", data)
        return tuple(_each(data, [one.read for one in inner]))

    def encode(value: object) -> object:
        if not isinstance(value, tuple) or len(value) != many:
            had = f"one of {len(value)}" if isinstance(value, tuple) else kind_of(value)
            raise Refused(f"a tuple of {many} is wanted, not {had}")
        return _each(value, [one.encode for one in inner])

    return Converter("tuple", encode, decode, _JSON_LIST)


def _each(values: Iterable[object], converts: list[Convert]) -> list[object]:
    turn = iter(converts)
    return items(values, lambda item: next(turn)(item))  # noqa: PLW0108 - another one for each item


def variadic(inner: Converter) -> Converter:
    """tuple[T, ...]."""
    return _iterable("tuple", tuple, (tuple,), inner)


def mapping(make: Make, keys: Converter | None, inner: Converter) -> Converter:
    """dict[K, V] and its kinds. keys: None where they are text."""
    if keys is None and inner.plain and make is dict:
        return _plain_mapping(inner)
    name: str = getattr(make, "__name__", "dict")
    write_key = cast("Callable[[object], str]", (keys or TEXT_KEYS).encode)

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise misfit("an object", data)
        found: dict[object, object] = {}
        for key, item in data.items():
            try:
                found[key if keys is None else keys.read(key)] = inner.read(item)
            except DecodeError as error:
                raise under(f".{key}", error) from None
        return found if make is dict else make(found)

    def encode(value: object) -> object:
        if not isinstance(value, abc.Mapping if make is dict else make):  # type: ignore[arg-type]
            raise wrong(f"a {name}", value)
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
            raise Refused(f"two of its keys would both be written as {written!r:.60}")
        found[written] = _entry(key, item, inner.write)
    check_base(value, make, name)
    return found


def _plain_mapping(inner: Converter) -> Converter:
    """dict[str, T] of what is JSON as it is: checked, and neither copied nor rebuilt."""
    kinds, read = inner.kinds, inner.decode

    def decode(data: object) -> object:
        if not isinstance(data, dict):
            raise misfit("an object", data)
        if read is not None and not kinds.issuperset(map(type, data.values())):
            for key, item in data.items():
                try:
                    inner.read(item)
                except DecodeError as error:
                    raise under(f".{key}", error) from None
        return data

    def encode(value: object) -> object:
        if not isinstance(value, abc.Mapping):
            raise unfit("a dict", value)
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
    """Raise Refused where a mapping of another class holds more than what it is made into."""
    if value.__class__ is not make and make(dict(value.items())) != value:
        raise Refused(f"{kind_of(value)} would come back as a {name} that is not equal to it")


def _entry(key: object, item: object, convert: Convert) -> object:
    try:
        return convert(item)
    except Refused as refused:
        raise refused.under(f".{key}") from None


def _text_key(key: object) -> str:
    return text_key(key)


TEXT_KEYS: Final = Converter("str", _text_key, None)
"""Keys that are JSON's own."""


def keys(inner: Converter) -> Converter:
    """The converter of a dict's keys: what is no text in JSON is written as JSON text."""

    def decode(name: object) -> object:
        for data in _meanings(name, inner):
            try:
                return inner.read(data)
            except DecodeError:
                continue
        raise misfit(f"a key that is {inner.name}", name)

    def encode(key: object) -> str:
        try:
            data = inner.encode(key)
        except Refused as refused:
            fault = f"the key {key!r:.60}: {refused.fault}"
            raise Refused(fault, changed=refused.changed, unfit=refused.unfit) from None
        name = data if isinstance(data, str) else orjson.dumps(data).decode()
        try:
            back = decode(name)
        except DecodeError:
            back = None
        if not same(key, back):
            raise Refused(f"the key {key!r:.60} would come back as {back!r:.60}: annotate keys of one type")
        return name

    return Converter(inner.name, encode, decode, frozenset({str}))


def _meanings(name: object, inner: Converter) -> list[object]:
    """What a key's text can be as JSON data: what its type is written as comes first."""
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
            return kind(data) if isinstance(data, str) and kind is int else _misfit(kind, data)
        except ValueError:
            return _misfit(kind, data)

    def encode(value: object) -> object:
        if not isinstance(value, kind):
            raise wrong(f"a key that is {kind.__name__}", value)
        return kind(value)

    return Converter(kind.__name__, encode, decode, frozenset({kind}))


def _misfit(kind: type, data: object) -> object:
    raise misfit(f"a key that is {kind.__name__}", data)


NUMBER_KEYS: Final[dict[object, Converter]] = {kind: keys(_number_key(kind)) for kind in (int, bool)}
"""Keys that are JSON scalars elsewhere and text here."""
